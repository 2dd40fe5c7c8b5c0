//! A client that was written in another language, from docs/protocol.md alone: `tests/interop`, in Python.
//!
//! Where Python, or one of the packages that the client needs, is not installed, the tests say `skipped: … is not
//! installed` and pass. With `POSTRIDER_REQUIRE_INTEROP` in the environment, as in the gate, that is a failure. Which
//! Python is used, `POSTRIDER_PYTHON` says; otherwise `python3`.

#[cfg(test)]
#[path = "interop/python.rs"]
mod python;
#[cfg(test)]
#[path = "interop/relays.rs"]
mod relays;
