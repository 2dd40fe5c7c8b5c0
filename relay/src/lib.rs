//! The relay: it accepts envelopes, keeps them durably until they are delivered, and forwards those whose
//! recipients are kept elsewhere.

pub mod acme;
pub mod admin;
pub mod admission;
pub mod api;
pub mod attachments;
pub mod command;
pub mod config;
pub mod core;
pub mod count;
pub mod daemon;
pub mod delivery;
mod durable;
pub mod exchange;
pub mod exit;
mod failpoint;
pub mod hub;
pub mod inbound;
pub mod listener;
pub mod monitor;
pub mod outbound;
pub mod queue;
mod reading;
pub mod route;
pub mod store;
pub mod telemetry;
