//! A bar on standard error, if that is a terminal.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::store::{Progress, Step};

const KNOWN: &str = "{msg:22} {bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
const UNKNOWN: &str = "{msg:22} {spinner} {bytes}  {bytes_per_sec}";

/// Shows the step that is under way. It is gone when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Bar(Mutex<Option<(Step, ProgressBar)>>);

impl Progress for Bar {
    fn at(&self, step: Step, done: u64, of: u64) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = match &*shown {
            Some((at, bar)) if *at == step => bar,
            _ => {
                let bar = ProgressBar::new(of);
                let style = ProgressStyle::with_template(if of == 0 { UNKNOWN } else { KNOWN });
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_message(step.to_string());
                clear(shown.replace((step, bar)));
                return;
            }
        };
        bar.set_length(of);
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        clear(self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn clear(shown: Option<(Step, ProgressBar)>) {
    if let Some((_, bar)) = shown {
        bar.finish_and_clear();
    }
}
