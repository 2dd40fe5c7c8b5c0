//! The owner of every task.
//!
//! A task that panics, or a service that ends although nobody asked it to, takes the process down in order: the
//! first such end is kept, everything is told to stop, and `main` reports it. No panic is swallowed.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// Starts tasks, tells them to stop, waits for their end. Clones share the tasks.
#[derive(Debug, Clone)]
pub struct Supervisor {
    tracker: TaskTracker,
    stop: CancellationToken,
    hurry: CancellationToken,
    kill: CancellationToken,
    failure: Arc<watch::Sender<Option<TaskFailure>>>,
}

/// A task ended that should not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task `{task}` {how}")]
pub struct TaskFailure {
    /// Its name.
    pub task: &'static str,
    /// What it did: panicked and with which message, or returned.
    pub how: String,
}

impl Supervisor {
    /// One without tasks.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            kill: CancellationToken::new(),
            failure: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Starts a task that may end when its work is done, such as one connection.
    #[expect(clippy::disallowed_methods, reason = "this is the owner that the lint asks for")]
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let supervisor = self.clone();
        let watched = async move {
            tokio::select! {
                biased;
                () = supervisor.kill.cancelled() => {}
                ended = AssertUnwindSafe(future).catch_unwind() => if let Err(panic) = ended {
                    supervisor.fail(task, format!("panicked: {}", message(&*panic)));
                },
            }
        };
        tokio::spawn(self.tracker.track_future(watched));
    }

    /// Starts a task that runs until it is told to stop, such as a listener. That it ends earlier is a failure.
    pub fn spawn_service<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let supervisor = self.clone();
        self.spawn(task, async move {
            future.await;
            if !supervisor.is_stopping() {
                supervisor.fail(task, "ended although it was not told to".into());
            }
        });
    }

    /// Tells every task to stop. What each does then is its own affair.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether [`stop`](Self::stop) was called or a task failed.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Completes when tasks are to stop.
    pub fn stopping(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Tells tasks that are still waiting for somebody else, such as a peer that has gone silent, to give that up.
    /// Comes after [`stop`](Self::stop), when a good part of the time for the end is over.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Completes when nobody else is to be waited for any longer.
    pub fn hurrying(&self) -> WaitForCancellationFutureOwned {
        self.hurry.clone().cancelled_owned()
    }

    /// Drops every task where it stands, as the end of the process would; none of them does anything from now on. For
    /// simulations in which several relays live in one process.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Reports that a part of the process outside this supervisor's tasks, such as a thread, has ended.
    pub fn fail(&self, task: &'static str, how: String) {
        let failure = TaskFailure { task, how };
        tracing::error!(task, "{failure}");
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
        self.stop.cancel();
    }

    /// The first failure, if there was one.
    pub fn failure(&self) -> Option<TaskFailure> {
        self.failure.borrow().clone()
    }

    /// Waits until every task has ended, after [`stop`](Self::stop).
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stops_everything_and_is_told() {
        let supervisor = Supervisor::new();
        let stopping = supervisor.stopping();
        supervisor.spawn_service("listener", stopping);
        supervisor.spawn("connection", async { panic!("out of {}", "cheese") });
        supervisor.finished().await;
        assert_eq!(
            supervisor.failure().unwrap().to_string(),
            "the task `connection` panicked: out of cheese"
        );
    }

    #[tokio::test]
    async fn a_service_must_not_end_by_itself() {
        let supervisor = Supervisor::new();
        supervisor.spawn("request", async {});
        supervisor.spawn_service("listener", async {});
        supervisor.finished().await;
        assert_eq!(supervisor.failure().unwrap().task, "listener");
    }

    #[tokio::test]
    async fn a_kill_leaves_every_task_where_it_stands() {
        let supervisor = Supervisor::new();
        let (went_on, mut told) = watch::channel(false);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let waiting = is_ready.map(move |_| went_on.send_replace(true));
        supervisor.spawn_service("listener", waiting.map(drop));
        tokio::task::yield_now().await;
        supervisor.kill();
        // What it waited for comes in the same moment, and too late.
        ready.send(()).unwrap();
        supervisor.finished().await;
        assert!(told.changed().await.is_err() && !*told.borrow());
        assert_eq!(supervisor.failure(), None);
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_failure() {
        let supervisor = Supervisor::new();
        supervisor.spawn_service("listener", supervisor.stopping());
        supervisor.stop();
        supervisor.finished().await;
        assert_eq!(supervisor.failure(), None);
    }
}
