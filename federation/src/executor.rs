//! Hyper's tasks under the supervisor.

use hyper::rt::Executor;
use postrider_common::supervisor::Supervisor;

/// Starts what hyper wants run in the background as tasks of a [`Supervisor`], so that a panic in a request handler is
/// noticed and shutdown waits for the requests.
#[derive(Debug, Clone)]
pub struct TaskExecutor {
    supervisor: Supervisor,
    task: &'static str,
}

impl TaskExecutor {
    /// One whose tasks go by the name `task`.
    pub const fn new(supervisor: Supervisor, task: &'static str) -> Self {
        Self { supervisor, task }
    }
}

impl<F> Executor<F> for TaskExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.supervisor.spawn(self.task, future);
    }
}
