//! What the example prints: its own steps, those that the relays log, and a line of progress.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_common::Domain;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Log lines of the relays that tell an envelope's way, and how each is put for a reader.
const TOLD: [(&str, &str); 9] = [
    ("SRV answer", "asks DNS for the SRV record"),
    ("TLS agreed", "TLS is agreed, both sides proven"),
    ("stored", "has it on disk"),
    ("queued", "queues it on disk"),
    ("batch forwarded", "has forwarded"),
    ("inbound batch", "takes a batch"),
    ("pushed", "pushes to the device"),
    ("acknowledged", "hears that the device has it"),
    ("deleted", "has deleted it"),
];
/// How often the line of progress is renewed at most.
const RENEWED: Duration = Duration::from_millis(50);

/// The example's output. Clones write to the same place.
#[derive(Clone)]
pub struct Steps(Arc<Shared>);

struct Shared {
    began: Instant,
    colours: bool,
    shows_relays: AtomicBool,
    sent: AtomicUsize,
    received: AtomicUsize,
    renewed: Mutex<Option<Instant>>,
}

impl Steps {
    /// With colours and a line of progress on a terminal, without elsewhere.
    pub fn new(is_terminal: bool) -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            colours: is_terminal,
            shows_relays: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            renewed: Mutex::default(),
        }))
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// A step of the clients.
    pub fn say(&self, text: &str) {
        self.line(&self.paint("36", &format!("{:<14}", "clients")), text);
    }

    /// Whether the relays' own steps are shown.
    pub fn show_relays(&self, show: bool) {
        self.0.shows_relays.store(show, Ordering::Relaxed);
    }

    /// Counts, and renews the line of progress now and then.
    pub fn progress(&self, sent: usize, received: usize) {
        let sent = self.0.sent.fetch_add(sent, Ordering::Relaxed) + sent;
        let received = self.0.received.fetch_add(received, Ordering::Relaxed) + received;
        let mut renewed = self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.colours && renewed.is_none_or(|at| at.elapsed() >= RENEWED) {
            *renewed = Some(Instant::now());
            print!("\r  submitted {sent}, delivered {received} ");
            let _ = io::stdout().flush();
        }
    }

    /// The last state of the line of progress.
    pub fn end_progress(&self) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let start = if self.0.colours { "\r" } else { "" };
        println!("{start}  submitted {}, delivered {} ", count(&self.0.sent), count(&self.0.received));
    }

    /// Where a relay logs to.
    pub fn dispatch(&self, domain: &Domain) -> Dispatch {
        let steps = RelaySteps { steps: self.clone(), relay: domain.to_string() };
        tracing_subscriber::registry().with(steps).into()
    }

    fn line(&self, who: &str, text: &str) {
        let elapsed = self.0.began.elapsed().as_secs_f64() * 1000.0;
        println!("{} {who} {text}", self.paint("2", &format!("{elapsed:>9.1} ms")));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.0.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Turns a relay's log lines into steps.
struct RelaySteps {
    steps: Steps,
    relay: String,
}

impl<S: Subscriber> Layer<S> for RelaySteps {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if !self.steps.0.shows_relays.load(Ordering::Relaxed) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        if let Some((_, told)) = TOLD.iter().find(|(message, _)| *message == line.message) {
            let who = self.steps.paint("33", &format!("{:<14}", self.relay));
            self.steps.line(&who, &format!("{told}{}", line.fields));
        }
    }
}

/// One log line, read back.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name} {value:?}"),
        };
    }
}
