//! Files that are brought and fetched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_client::clock::{Clock, SystemClock};
use postrider_client::{Timestamp, Upload};

use super::server::{Server, problem};

/// A clock on which every wait is over at once, and is written down.
#[derive(Debug, Clone, Default)]
struct Impatient(Arc<Mutex<Vec<Duration>>>);

impl Clock for Impatient {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }
}

/// A file of so many bytes, which are not all the same.
fn file(directory: &Path, bytes: usize) -> PathBuf {
    let path = directory.join("a file.bin");
    let content: Vec<u8> = (0..bytes).step_by(8).flat_map(|at| (at as u64).to_be_bytes()).collect();
    std::fs::write(&path, &content[..bytes]).unwrap();
    path
}

#[tokio::test]
async fn pauses_grow_and_are_not_the_same_for_everybody() {
    let (server, clock) = (Server::start().await, Impatient::default());
    let relay = server.relay().clock(Arc::new(clock.clone())).build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut upload = Upload::new(file(directory.path(), 10)).unwrap();
    upload.run(&relay, &mut |_, _| {}).await.unwrap();
    let attached = upload.run(&relay, &mut |_, _| {}).await.unwrap();
    for _ in 0..5 {
        server.answer(502, &[], "<html>".into());
    }
    attached.save(&relay, directory.path().join("."), &mut |_, _| {}).await.unwrap();
    let pauses = clock.0.lock().unwrap().clone();
    let longest = [250, 500, 1000, 2000, 4000].map(Duration::from_millis);
    assert_eq!(pauses.len(), longest.len());
    for (pause, longest) in pauses.iter().zip(longest) {
        assert!(*pause >= longest / 2 && *pause <= longest, "{pauses:?}");
    }
    assert!(pauses.iter().zip(longest).any(|(pause, longest)| *pause != longest), "{pauses:?}");

    // What the relay asks for is the least.
    server.answer(503, &[("retry-after", "7")], problem("unavailable", 503));
    attached.save(&relay, directory.path(), &mut |_, _| {}).await.unwrap();
    assert_eq!(clock.0.lock().unwrap().last(), Some(&Duration::from_secs(7)));
}
