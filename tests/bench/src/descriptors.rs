//! File descriptors: each connection takes one here, and one in the relay, which inherits this process's limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::BenchError;

/// What a process has open beside connections to devices.
const OTHERS: u64 = 256;

/// Sees to it that so many connections are possible.
pub(crate) fn allow(connections: usize) -> Result<(), BenchError> {
    let wanted = connections as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let higher = Rlimit { current: Some(wanted), maximum: maximum.map(|maximum| maximum.max(wanted)) };
    setrlimit(Resource::Nofile, higher).map_err(|_| {
        let allowed = maximum.or(current).unwrap_or_default();
        BenchError::Generator(format!(
            "{connections} connections take {wanted} file descriptors, and this process may have {allowed}: start it \
             where `ulimit -n {wanted}` works, or with fewer --recipients"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_already_stays() {
        let before = getrlimit(Resource::Nofile);
        allow(1).unwrap();
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
