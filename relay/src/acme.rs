//! Certificates from an ACME server (RFC 8555): got, kept, shown and renewed without anybody's help.
//!
//! Names are proven on the relay's own port (TLS-ALPN-01, RFC 8737: `challenge.rs`). The certificate is for the key of the
//! relay's identity, so that clients and relays that pin that key, or go by TLSA records, need not know of any of this; until there is a
//! certificate the identity's own is shown. What goes wrong is told and tried again (`schedule.rs`), and never takes the
//! relay down. Everything that has to outlive a restart is in `files.rs`, above all when the server may be asked again.

mod challenge;
mod files;
mod http;
mod order;
mod schedule;
mod standing;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider_common::clock::SharedClock;
use postrider_common::random::{SystemRandom, fraction_of};
use postrider_common::supervisor::Supervisor;
use postrider_common::{Domain, Timestamp};
use postrider_federation::Presented;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use self::http::Http;
use crate::config::{AcmeConfig, Config, Credentials};
use files::{Files, Renewal, State};
use order::{Applicant, Failed, Step};

pub use challenge::Challenges;
pub use files::{FileError, stored};
pub use http::Names;
pub use standing::{Standing, Told};

/// The longest pause between two looks at what is to be done: a clock may be set meanwhile.
const ROUND: Duration = Duration::from_secs(3600);
/// What is told of an attempt that was interrupted.
const UNFINISHED: &str = "the attempt did not come to its end";
/// How long a certificate stays at least, unless something else is wished for.
const BETWEEN: Duration = Duration::from_secs(12 * 3600);
/// How often a server is asked when it wants its certificates renewed, unless it says itself how often; and within which bounds it may.
const ASKED: Duration = Duration::from_secs(6 * 3600);
const ASKED_AT_MOST: Duration = Duration::from_secs(3600);
const ASKED_AT_LEAST: Duration = Duration::from_secs(24 * 3600);

/// What somebody wants a certificate for.
#[derive(Clone, PartialEq, Eq)]
pub struct Wish {
    acme: AcmeConfig,
    /// What other relays pin: whose key the certificate is for.
    pin: [u8; 32],
    key_pem: zeroize::Zeroizing<Vec<u8>>,
}

/// What is wished at this moment, and how often somebody has asked for it not to wait any longer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    wish: Option<Wish>,
    impatience: u64,
}

/// What the service needs of the relay.
pub struct Parts {
    /// What is wanted.
    pub wanted: watch::Receiver<Wanted>,
    /// Called with each certificate that is to be shown from now on.
    pub show: Box<dyn Fn(Credentials) + Send + Sync>,
    /// Where challenges are answered.
    pub challenges: Challenges,
    /// Where it is told how it stands.
    pub standing: Standing,
    /// How the server is found.
    pub names: Names,
    /// Where to keep things.
    pub data_dir: PathBuf,
    /// What time it is.
    pub clock: SharedClock,
}

/// Starts the service. It waits for wishes until the process stops.
pub fn start(parts: Parts, supervisor: &Supervisor) {
    let service = Service { parts, supervisor: supervisor.clone(), shown: None, announced: None, told: None };
    let stopping = supervisor.stopping();
    supervisor.spawn_service("ACME", async move {
        tokio::select! {
            () = stopping => {}
            () = service.run() => {}
        }
    });
}

struct Service {
    parts: Parts,
    supervisor: Supervisor,
    /// The certificate that is shown.
    shown: Option<CertificateDer<'static>>,
    /// For what it was said that there is none.
    announced: Option<String>,
    /// What was said last of files that cannot be used.
    told: Option<String>,
}

impl Wanted {
    /// What a configuration wants.
    pub fn by(config: &Config) -> Self {
        Self { wish: Wish::of(config), impatience: 0 }
    }

    /// What a configuration wants that somebody has just had read: whatever waits for a failure to be over is tried
    /// at once.
    pub fn now(&mut self, config: &Config) {
        *self = Self { wish: Wish::of(config), impatience: self.impatience + 1 };
    }

    /// What a configuration wants in which a certificate or a key has changed; whether that is something else.
    pub fn still(&mut self, config: &Config) -> bool {
        let wish = Wish::of(config);
        let is_another = wish != self.wish;
        self.wish = wish;
        is_another
    }
}

impl Wish {
    fn of(config: &Config) -> Option<Self> {
        let identity = &config.federation.identity;
        let (pin, key_pem) = (identity.pin, identity.key_pem.clone());
        Some(Self { acme: config.acme.clone()?, pin, key_pem })
    }

    /// What a certificate has to be for, in words that tell one wish from another.
    fn words(&self) -> String {
        let pin = data_encoding::HEXLOWER.encode(&self.pin);
        format!("{} for {pin}", list(&self.acme.names))
    }

    /// Whether this is what was wished for, however long it is valid.
    fn is_met_by(&self, certificate: &Credentials) -> bool {
        certificate.pin == self.pin && self.acme.names.iter().all(|name| certificate.names(name))
    }
}

impl Service {
    async fn run(mut self) {
        let mut impatience = 0;
        loop {
            let wanted = self.parts.wanted.borrow_and_update().clone();
            let is_impatient = wanted.impatience > impatience;
            impatience = wanted.impatience;
            let pause = match &wanted.wish {
                Some(wish) => self.look(wish, is_impatient).await,
                None => {
                    self.parts.standing.tell(None);
                    ROUND
                }
            };
            // From now on, whoever reads the log may move the clock.
            let next = self.parts.clock.sleep(pause);
            tracing::debug!("automatic certificates were looked at, next in {} s", pause.as_secs());
            tokio::select! {
                // An error means that nobody is there any more to wish for anything.
                Ok(()) = self.parts.wanted.changed() => {}
                () = next => {}
            }
        }
    }

    /// Does what is due; how long until the next look.
    async fn look(&mut self, wish: &Wish, is_impatient: bool) -> Duration {
        let files = Files::of(&self.parts.data_dir, &wish.acme);
        let state = self.read(files.state()).unwrap_or_default();
        let mut state = if state.wish == wish.words() {
            state
        } else {
            State {
                wish: wish.words(),
                asked_until: state.asked_until,
                issued_at: state.issued_at,
                ..State::default()
            }
        };
        if is_impatient {
            (state.failures, state.not_before) = (0, 0);
        }
        let certificate = self.read(files.certificate()).flatten().filter(|kept| wish.is_met_by(kept));
        match &certificate {
            Some(certificate) => self.show(certificate),
            None => self.announce(wish),
        }
        let now = self.parts.clock.now();
        let (due, next_look) = match &certificate {
            None => (now, now + ROUND),
            Some(certificate) => {
                let renewal = self.renewal(wish, &files, &mut state, certificate).await;
                (Timestamp::from_secs(renewal.at), Timestamp::from_secs(renewal.ask_at))
            }
        };
        let now = self.parts.clock.now();
        let due = due.max(state.earliest(now));
        self.tell(wish, &state, due);
        if now < due {
            return due.min(next_look).since(now).min(ROUND);
        }
        let is_noted = self.attempt(wish, &files, state, certificate.as_ref()).await;
        // Where nothing can be noted, the next attempt would follow at once, and so on.
        if is_noted { Duration::ZERO } else { ROUND }
    }

    /// When a certificate is to be renewed: as the server suggests, if it does.
    async fn renewal(
        &mut self,
        wish: &Wish,
        files: &Files,
        state: &mut State,
        certificate: &Credentials,
    ) -> Renewal {
        let (from, until) = life(certificate);
        let known = state.renewal.take().filter(|known| known.life == (from.as_secs(), until.as_secs()));
        let mut renewal = known.unwrap_or_else(|| Renewal {
            life: (from.as_secs(), until.as_secs()),
            window: None,
            at: schedule::by_lifetime((from, until), jitter()).as_secs(),
            ask_at: 0,
        });
        let now = self.parts.clock.now();
        if now >= schedule::earliest(Timestamp::from_secs(renewal.ask_at), now) {
            renewal.ask_at = (now + ASKED).as_secs();
            state.renewal = Some(renewal.clone());
            // Noted before it is asked, so that a relay that starts over and over does not ask each time.
            if files.keep_state(state).is_ok() {
                self.ask_about_renewal(wish, files, certificate, &mut renewal).await;
            }
            state.renewal = Some(renewal.clone());
            self.note(files, state);
        }
        state.renewal = Some(renewal.clone());
        renewal
    }

    async fn ask_about_renewal(
        &self,
        wish: &Wish,
        files: &Files,
        certificate: &Credentials,
        renewal: &mut Renewal,
    ) {
        let Some(leaf) = leaf(certificate) else { return };
        let asked = match self.applicant(wish, files) {
            Ok(applicant) => applicant.renewal_info(leaf).await,
            Err(failed) => Err(failed),
        };
        let now = self.parts.clock.now();
        match asked {
            Ok(Some((info, again))) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
                let window = (
                    seconds(info.suggested_window.start.unix_timestamp()),
                    seconds(info.suggested_window.end.unix_timestamp()),
                );
                if renewal.window != Some(window) {
                    let (start, end) = (Timestamp::from_secs(window.0), Timestamp::from_secs(window.1));
                    let until = Timestamp::from_secs(renewal.life.1);
                    renewal.window = Some(window);
                    renewal.at = schedule::in_window((start, end), until, jitter()).as_secs();
                }
                renewal.ask_at = (now + again.clamp(ASKED_AT_MOST, ASKED_AT_LEAST)).as_secs();
            }
            Ok(None) => {
                renewal.window = None;
                renewal.ask_at = (now + ASKED_AT_LEAST).as_secs();
            }
            Err(failed) => tracing::debug!("when to renew the certificate cannot be asked: {failed}"),
        }
    }

    /// Asks for a certificate, and notes what came of it; whether that could be noted.
    async fn attempt(
        &mut self,
        wish: &Wish,
        files: &Files,
        mut state: State,
        earlier: Option<&Credentials>,
    ) -> bool {
        // As if it had failed, before it is begun: a relay that dies in the middle has failed.
        state.failures = state.failures.saturating_add(1);
        state.failure = Some(UNFINISHED.into());
        let wait = schedule::wait(state.failures, None, jitter());
        state.not_before = (self.parts.clock.now() + wait).as_secs();
        let replaced = state.renewal.as_ref().and_then(|renewal| renewal.window);
        let replaced = replaced.and(earlier).and_then(leaf);
        let got = match files.keep_state(&state) {
            Err(error) => Err(Failed::here(Step::Account, &error)),
            Ok(()) => match self.applicant(wish, files) {
                Ok(applicant) => applicant.apply(&wish.key_pem, replaced).await,
                Err(failed) => Err(failed),
            },
        };
        let kept = got.and_then(|issued| match files.keep_certificate(&issued) {
            Ok(()) => Ok(issued),
            Err(error) => Err(Failed::here(Step::Certificate, &error)),
        });
        let (names, now) = (list(&wish.acme.names), self.parts.clock.now());
        match kept {
            Ok(issued) => {
                tracing::info!("a certificate for {names} was issued, valid until {}", life(&issued).1);
                // Whatever is found to be wrong with it, or with the clock here: the server is not asked again at once.
                let not_before = (now + BETWEEN).as_secs();
                let issued_at = now.as_secs();
                state = State { wish: state.wish, not_before, issued_at, ..State::default() };
                self.show(&issued);
            }
            Err(failed) => {
                if failed.is_account_unknown() {
                    let _ = self.read(files.forget_account());
                }
                let asked = failed.asked.map(|asked| now + asked).unwrap_or_default();
                state.not_before = (now + wait).as_secs();
                state.asked_until = asked.min(now + schedule::LONGEST).as_secs();
                state.failure = Some(failed.to_string());
                let next = state.earliest(now);
                tracing::warn!("a certificate could not be got for {names}: {failed}; next attempt {next}");
            }
        }
        self.tell(wish, &state, state.earliest(now));
        self.note(files, &state)
    }

    fn tell(&self, wish: &Wish, state: &State, next_attempt: Timestamp) {
        self.parts.standing.tell(Some(Told {
            names: wish.acme.names.clone(),
            server: wish.acme.directory.host().unwrap_or_default().to_owned(),
            issued_at: (state.issued_at > 0).then(|| Timestamp::from_secs(state.issued_at)),
            next_attempt,
            failures: state.failures,
            failure: state.failure.clone().filter(|_| state.failures > 0),
        }));
    }

    fn applicant<'a>(&'a self, wish: &'a Wish, files: &'a Files) -> Result<Applicant<'a>, Failed> {
        let Parts { names, challenges, clock, .. } = &self.parts;
        let http =
            Http::new(names.clone(), wish.acme.roots.as_ref(), Arc::clone(clock), self.supervisor.clone());
        let http = http.map_err(|error| Failed::here(Step::Account, &error))?;
        Ok(Applicant { acme: &wish.acme, files, http, challenges, clock })
    }

    fn show(&mut self, certificate: &Credentials) {
        let leaf = leaf(certificate).cloned();
        if self.shown != leaf {
            self.shown = leaf;
            (self.parts.show)(certificate.clone());
        }
    }

    /// Says once that there is no certificate yet.
    fn announce(&mut self, wish: &Wish) {
        let words = wish.words();
        if self.announced.as_ref() != Some(&words) {
            let (names, server) = (list(&wish.acme.names), wish.acme.directory.authority());
            let server = server.map_or("", |authority| authority.host());
            tracing::info!(
                "there is no certificate for {names} yet: until {server} has issued one, clients are shown what \
                 they were shown before, or the relay's identity certificate"
            );
            self.announced = Some(words);
        }
    }

    fn note(&mut self, files: &Files, state: &State) -> bool {
        self.read(files.keep_state(state)).is_some()
    }

    /// What is there, or nothing, which is said once.
    fn read<T>(&mut self, result: Result<T, FileError>) -> Option<T> {
        result
            .map_err(|error| {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    tracing::error!("a file about automatic certificates cannot be used: {text}");
                    self.told = Some(text);
                }
            })
            .ok()
    }
}

/// When a certificate's life began, and when it ends.
fn life(certificate: &Credentials) -> (Timestamp, Timestamp) {
    let presented = Presented::of(&certificate.certified.cert);
    presented.map_or_else(Default::default, |presented| (presented.not_before, presented.not_after))
}

fn leaf(certificate: &Credentials) -> Option<&CertificateDer<'static>> {
    certificate.certified.cert.first()
}

fn jitter() -> f64 {
    fraction_of(&SystemRandom)
}

fn list(names: &[Domain]) -> String {
    names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ")
}

/// Without the key.
impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish").field("acme", &self.acme).finish_non_exhaustive()
    }
}
