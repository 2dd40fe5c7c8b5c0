//! Files that are brought and fetched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_client::clock::{Clock, SystemClock};
use postrider_client::{AttachmentError, SavedUpload, Timestamp, Upload};

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

/// Bytes of three chunks.
const LARGE: usize = 10 << 20;

#[tokio::test]
async fn an_upload_begins_anew_where_the_relay_has_let_go_of_it() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let kept = &server.state.attachments;
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), 10);
    let mut upload = Upload::new(&path).unwrap();
    upload.reserve(&relay).await.unwrap();
    let first = serde_json::to_value(upload.saved().unwrap()).unwrap();
    kept.forget();
    upload.run(&relay, &mut |_, _| {}).await.unwrap();
    let second = serde_json::to_value(upload.saved().unwrap()).unwrap();
    assert_ne!(first["attachment"]["id"], second["attachment"]["id"]);
    assert_ne!(first["key"], second["key"], "a key is for one attachment");

    // Also where that happens between the question and the chunk.
    kept.lose(0);
    let mut has_forgotten = false;
    let mut forget = |_, _| {
        if !std::mem::replace(&mut has_forgotten, true) {
            kept.forget();
        }
    };
    let attached = upload.run(&relay, &mut forget).await.unwrap();
    let saved = attached.save(&relay, directory.path(), &mut |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read(saved).unwrap(), std::fs::read(path).unwrap());
}

#[tokio::test]
async fn another_process_goes_on_with_an_upload() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let kept = &server.state.attachments;
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), LARGE);
    let mut upload = Upload::new(&path).unwrap();
    assert!(upload.saved().is_none(), "there is nothing to go on with");
    upload.reserve(&relay).await.unwrap();
    let saved = upload.saved().unwrap();
    let text = serde_json::to_string(&saved).unwrap();
    let key = serde_json::to_value(&saved).unwrap()["key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 64);
    assert!(!format!("{saved:?} {upload:?}").contains(&key[..8]), "a key is not shown");
    upload.run(&relay, &mut |_, _| {}).await.unwrap();
    drop(upload);
    kept.lose(1);

    let saved: SavedUpload = serde_json::from_str(&text).unwrap();
    let mut upload = Upload::resume(&path, saved.clone()).unwrap();
    let mut told = Vec::new();
    let attached = upload.run(&relay, &mut |done, of| told.push((done, of))).await.unwrap();
    let all = told[0].1;
    assert_eq!(told, [(all - (4 << 20), all), (all, all)], "one chunk of three is brought");
    assert_eq!(kept.ids().len(), 1);
    let got = attached.save(&relay, directory.path(), &mut |_, _| {}).await.unwrap();
    assert!(std::fs::read(got).unwrap() == std::fs::read(&path).unwrap());

    file(directory.path(), LARGE - 1);
    let error = Upload::resume(&path, saved).unwrap_err();
    assert!(matches!(error, AttachmentError::Changed { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_sent_after_all_is_given_up() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut upload = Upload::new(file(directory.path(), 10)).unwrap();
    upload.abandon(&relay).await.unwrap();
    upload.run(&relay, &mut |_, _| {}).await.unwrap();
    upload.abandon(&relay).await.unwrap();
    assert_eq!(server.state.attachments.ids(), []);
    upload.run(&relay, &mut |_, _| {}).await.unwrap();
    server.state.attachments.forget();
    upload.abandon(&relay).await.unwrap();
}

#[tokio::test]
async fn nothing_stays_of_a_file_that_is_lost() {
    let server = Server::start().await;
    let relay = server.relay().build().unwrap();
    let kept = &server.state.attachments;
    let directory = tempfile::tempdir().unwrap();
    let attached = Upload::new(file(directory.path(), LARGE)).unwrap().run(&relay, &mut |_, _| {}).await;
    let attached = attached.unwrap();
    let into = tempfile::tempdir().unwrap();
    let left = || std::fs::read_dir(into.path()).unwrap().count();

    kept.damage(1);
    server.answer(403, &[], problem("something-new", 403));
    let error = attached.save(&relay, into.path(), &mut |_, _| {}).await.unwrap_err();
    assert!(!error.is_lost(), "{error}");
    assert_eq!(left(), 1, "what is begun stays");
    let error = attached.save(&relay, into.path(), &mut |_, _| {}).await.unwrap_err();
    assert!(error.is_lost() && matches!(error, AttachmentError::Damaged), "{error}");
    assert_eq!(left(), 0);

    kept.forget();
    let error = attached.save(&relay, into.path(), &mut |_, _| {}).await.unwrap_err();
    assert!(error.is_lost() && !error.is_retryable(), "{error}");
    assert_eq!(left(), 0);
}
