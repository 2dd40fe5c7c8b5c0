//! The socket's file: made for its owner alone, put in place at once, taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The file in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// Where the socket of the relay on `data_dir` is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_NAME)
}

/// A socket that is listened on. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in `data_dir`, in the place of a socket that a killed relay has left there: whoever calls this has the store
    /// open, so no other relay uses it.
    ///
    /// It has another name first: what is found under the right one has the right mode, and takes connections.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = path(data_dir);
        let unfinished = path.with_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, &path)?;
        Ok(Self { listener, path })
    }

    /// The next connection; `None` for one of somebody who has no business here. The mode keeps others out; this holds
    /// where a file system does not know modes, or somebody has changed them.
    pub(super) async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if peer == own || peer == 0 {
            return Ok(Some(stream));
        }
        tracing::debug!("a connection of another user was closed");
        Ok(None)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What is not removed is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_replaces_a_stale_one_and_goes_with_its_end() {
        let data = tempfile::tempdir().unwrap();
        let path = path(data.path());
        let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(stale);
        fs::write(path.with_extension("new"), "left by a crash").unwrap();
        assert!(UnixStream::connect(&path).await.is_err(), "nobody listens");

        let socket = Socket::bind(data.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let connecting = UnixStream::connect(&path);
        let (accepted, connected) = tokio::join!(socket.accept(), connecting);
        assert!(accepted.unwrap().is_some());
        connected.unwrap();
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
