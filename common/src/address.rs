//! Where an envelope goes: a mailbox at a domain.

use std::fmt;
use std::str::FromStr;

use crate::{Domain, DomainError, IdError, MailboxId};

/// `<mailbox>@<domain>`, the mailbox in lower-case base32.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Whose mailbox.
    pub mailbox: MailboxId,
    /// The relay that keeps it.
    pub domain: Domain,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("an address is written <mailbox>@<domain>")]
    Shape,
    /// The part before the `@`.
    #[error(transparent)]
    Mailbox(#[from] IdError),
    /// The part after it.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (mailbox, domain) = text.split_once('@').ok_or(AddressError::Shape)?;
        Ok(Self { mailbox: mailbox.parse()?, domain: domain.parse()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.mailbox, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = format!("{}@example.org", MailboxId::from_bytes([3; 32]));
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }

    #[test]
    fn says_which_part_is_wrong() {
        assert_eq!("example.org".parse::<Address>(), Err(AddressError::Shape));
        assert!(matches!("abc@example.org".parse::<Address>(), Err(AddressError::Mailbox(_))));
        let mailbox = MailboxId::from_bytes([3; 32]);
        let text = format!("{mailbox}@192.0.2.1");
        assert_eq!(text.parse::<Address>(), Err(AddressError::Domain(DomainError::IpAddress)));
    }
}
