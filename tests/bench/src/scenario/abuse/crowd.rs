//! The abusive connections, on a thread of their own: the good client does not wait for its neighbours here.

use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_tests::abuse::{Abuser, Door, Kind, Reaction, Tally};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::BenchError;

/// How long whoever was thrown out waits before the next connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Abusers at work. They stop with it.
pub(super) struct Crowd {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
    tally: Tally,
}

impl Crowd {
    /// Each of them has one connection at a time, and makes another one when the relay has ended it.
    pub(super) fn start(abusers: Vec<Abuser>, kind: Kind, door: Door) -> Result<Self, BenchError> {
        let (stop, stopped) = oneshot::channel();
        let tally = Tally::default();
        let theirs = tally.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let all = join_all(abusers.iter().map(|abuser| again_and_again(abuser, kind, door, &theirs)));
                tokio::select! {
                    _ = all => {}
                    _ = stopped => {}
                }
            });
            Ok(())
        };
        let thread = std::thread::Builder::new().name("abuse".into()).spawn(work);
        let thread = thread.map_err(|error| BenchError::Generator(format!("no thread for it: {error}")))?;
        Ok(Self { stop, thread, tally })
    }

    /// Ends them, and says what the relay did about them.
    pub(super) fn end(self) -> Result<BTreeMap<Reaction, u64>, BenchError> {
        let Self { stop, thread, tally } = self;
        drop(stop);
        match thread.join() {
            Ok(Ok(())) => Ok(tally.counts()),
            Ok(Err(error)) => Err(BenchError::Generator(format!("no runtime for abuse: {error}"))),
            Err(_) => Err(BenchError::Generator("an abuser has panicked".into())),
        }
    }
}

async fn again_and_again(abuser: &Abuser, kind: Kind, door: Door, tally: &Tally) {
    loop {
        abuser.abuse(kind, door, tally).await;
        sleep(PAUSE).await;
    }
}
