//! The tasks of the load generator: the first that fails ends the run.

use std::time::Duration;

use postrider_common::supervisor::Supervisor;
use tokio::sync::watch;

use crate::BenchError;

/// Tasks that end by themselves, or when they are told to stop.
#[derive(Clone)]
pub(crate) struct Crew {
    supervisor: Supervisor,
    trouble: watch::Sender<Option<String>>,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self { supervisor: Supervisor::new(), trouble: watch::Sender::new(None) }
    }

    /// Starts one.
    pub(crate) fn spawn(
        &self,
        task: &'static str,
        work: impl Future<Output = Result<(), BenchError>> + Send + 'static,
    ) {
        let trouble = self.trouble.clone();
        self.supervisor.spawn(task, async move {
            if let Err(error) = work.await {
                trouble.send_modify(|first| {
                    first.get_or_insert(format!("{task}: {error}"));
                });
            }
        });
    }

    /// Completes when the tasks are to stop.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.supervisor.stopping()
    }

    /// Does something while the tasks work. That one of them fails is the end of it.
    pub(crate) async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        let mut trouble = self.trouble.subscribe();
        tokio::select! {
            done = work => done,
            Ok(trouble) = trouble.wait_for(Option::is_some) => {
                Err(BenchError::Generator(trouble.clone().unwrap_or_default()))
            }
            () = self.supervisor.stopping() => Err(self.failure()),
        }
    }

    /// Lets the tasks work for so long.
    pub(crate) async fn work_for(&self, duration: Duration) -> Result<(), BenchError> {
        let time = async {
            tokio::time::sleep(duration).await;
            Ok(())
        };
        self.during(time).await
    }

    /// Tells the tasks to stop, and waits for their end.
    pub(crate) async fn stop(&self) -> Result<(), BenchError> {
        if self.supervisor.failure().is_some() {
            return Err(self.failure());
        }
        self.supervisor.stop();
        self.finish().await
    }

    /// Waits for the end of the tasks.
    pub(crate) async fn finish(&self) -> Result<(), BenchError> {
        self.supervisor.finished().await;
        if self.supervisor.failure().is_some() {
            return Err(self.failure());
        }
        match self.trouble.borrow().clone() {
            Some(trouble) => Err(BenchError::Generator(trouble)),
            None => Ok(()),
        }
    }

    fn failure(&self) -> BenchError {
        let failure = self.supervisor.failure().map(|failure| failure.to_string());
        BenchError::Generator(failure.unwrap_or_else(|| "the generator was stopped".into()))
    }
}
