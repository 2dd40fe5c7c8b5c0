//! Pages in a browser: what the relay lets them do, and the example under `examples/web` in a headless Chromium.
//!
//! Where no Chromium is installed, its tests say `skipped: chromium is not installed` and pass. With
//! `POSTRIDER_REQUIRE_BROWSER` in the environment, as in the gate, that is a failure. With `POSTRIDER_SCREENSHOTS`, they
//! leave pictures in that directory.

#[cfg(test)]
#[path = "web/chromium.rs"]
mod chromium;
#[cfg(test)]
#[path = "web/example.rs"]
mod example;
#[cfg(test)]
#[path = "web/site.rs"]
mod site;
