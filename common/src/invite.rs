//! Invitations: what lets somebody register a mailbox at a relay where not everybody may.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::id::base32;
use crate::secret::Secret;
use crate::{Domain, InviteId};

/// What an invite's name is the hash of begins with this.
const ID_CONTEXT: &[u8] = b"postrider invite v1\0";
/// The path of every invite's URL.
const PATH: &str = "/invite";

/// What whoever was invited shows when they register: 16 random bytes, written as 26 characters of lower-case base32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteSecret(Secret<16>);

impl InviteSecret {
    /// A new one.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// Takes the bytes over.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Secret::new(bytes))
    }

    /// By what a relay knows it: the first 16 bytes of SHA-256 over `"postrider invite v1" 00 || secret`.
    pub fn id(&self) -> InviteId {
        let hash = Sha256::new().chain_update(ID_CONTEXT).chain_update(self.0.expose()).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        InviteId::from_bytes(id)
    }

    /// As text, for the one place that it is to be seen in.
    pub fn expose(&self) -> String {
        base32().encode(self.0.expose())
    }
}

impl FromStr for InviteSecret {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let bytes = base32().decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self::from_bytes).ok_or(InviteError("its secret is not 26 characters of lower-case base32"))
    }
}

impl Serialize for InviteSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.expose())
    }
}

impl<'de> Deserialize<'de> for InviteSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An invite as it is handed over: everything that an app needs to register at a relay it has never heard of.
///
/// As text it is a URL, `https://HOST[:PORT]/invite#domain=DOMAIN&secret=SECRET[&pin=PIN]`. What follows the `#` is sent
/// nowhere by whatever opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Where clients reach the relay: a host, with a port if it is not 443.
    pub authority: String,
    /// The relay's name.
    pub domain: Domain,
    /// What registers.
    pub secret: InviteSecret,
    /// The SHA-256 of the relay's public key, if it shows clients a certificate that it has made itself.
    pub pin: Option<[u8; 32]>,
}

impl Invite {
    /// The relay's URL.
    pub fn relay_url(&self) -> String {
        format!("https://{}", self.authority)
    }

    /// The invite itself, with its secret: for whoever is invited, and for nobody else's eyes.
    pub fn expose(&self) -> String {
        let Self { authority, domain, secret, pin } = self;
        let pin = pin.map(|pin| format!("&pin={}", data_encoding::HEXLOWER.encode(&pin)));
        format!(
            "https://{authority}{PATH}#domain={domain}&secret={}{}",
            secret.expose(),
            pin.unwrap_or_default()
        )
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let (place, fragment) = text.trim().split_once('#').ok_or(InviteError("it has no `#`"))?;
        let authority = place
            .strip_prefix("https://")
            .and_then(|rest| rest.strip_suffix(PATH))
            .filter(|authority| !authority.is_empty() && !authority.contains(['/', '?', '@', ' ']))
            .ok_or(InviteError("it does not begin with https://HOST/invite"))?;
        let (mut domain, mut secret, mut pin) = (None, None, None);
        for (key, value) in fragment.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "domain" => {
                    domain = Some(value.parse().map_err(|_| InviteError("what it calls a domain is none"))?);
                }
                "secret" => secret = Some(value.parse()?),
                "pin" => {
                    let bytes = data_encoding::HEXLOWER.decode(value.as_bytes()).ok();
                    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
                    pin = Some(bytes.ok_or(InviteError("its pin is not 64 hexadecimal digits"))?);
                }
                // A later version may say more.
                _ => {}
            }
        }
        Ok(Self {
            authority: authority.to_owned(),
            domain: domain.ok_or(InviteError("it names no domain"))?,
            secret: secret.ok_or(InviteError("it has no secret"))?,
            pin,
        })
    }
}

/// Why a text is no invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no invite: {0}")]
pub struct InviteError(&'static str);

impl fmt::Display for InviteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it is not one of this relay's, or was revoked, or its time has long been over",
            Self::Over => "its time is over",
            Self::UsedUp => "it was used as often as it may be",
        })
    }
}

/// Why an invite does not let anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteRefusal {
    /// There is none, or not any more.
    Unknown,
    /// Its time is over.
    Over,
    /// As many have registered with it as it is for.
    UsedUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "https://relay.example.org:8443/invite#domain=example.org&secret=aaaqeayeaudaocajbifqydiob4";

    #[test]
    fn an_invite_round_trips_as_a_url() {
        let invite: Invite = TEXT.parse().unwrap();
        assert_eq!(invite.relay_url(), "https://relay.example.org:8443");
        let bytes = std::array::from_fn(|n| u8::try_from(n).unwrap());
        assert_eq!(invite.secret, InviteSecret::from_bytes(bytes));
        assert_eq!((invite.domain.as_str(), invite.pin), ("example.org", None));
        assert_eq!(invite.expose(), TEXT);
        let pinned = Invite { pin: Some([0xab; 32]), ..invite };
        let text = pinned.expose();
        assert_eq!(text.parse(), Ok(pinned));
        assert_eq!(format!("{TEXT}&later=1").parse::<Invite>().unwrap().expose(), TEXT);
    }

    #[test]
    fn what_is_no_invite_is_told_apart() {
        for (text, expected) in [
            ("https://relay.example.org/invite", "no `#`"),
            (&TEXT.replace("https", "http"), "begin with https://HOST/invite"),
            (&TEXT.replace("/invite", "/other"), "begin with https://HOST/invite"),
            (&TEXT.replace("relay.", "me@relay."), "begin with https://HOST/invite"),
            (&TEXT.replace("=example", "=-example"), "domain is none"),
            (&TEXT.replace("domain=", "d="), "names no domain"),
            (&TEXT.replace("secret=", "s="), "no secret"),
            (&TEXT.replace("iob4", "iob5"), "26 characters"),
            (&format!("{TEXT}&pin=0"), "64 hexadecimal"),
        ] {
            let error = text.parse::<Invite>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_its_name_tells_nothing_of_it() {
        let invite: Invite = TEXT.parse().unwrap();
        assert!(!format!("{invite:?}").contains("aaaqeay"));
        assert_ne!(invite.secret.id().as_bytes(), invite.secret.0.expose());
        assert_eq!(invite.secret.id(), TEXT.parse::<Invite>().unwrap().secret.id());
    }
}
