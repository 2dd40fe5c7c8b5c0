//! The rules of the outbound queue: what an answer or a failure means for an envelope, for its destination, and for
//! the relay as a whole.
//!
//! Pure functions and plain values; the driver in [`delivery`](crate::delivery) carries them out. Nothing here knows
//! of HTTP.

mod destination;
mod outlook;
mod pace;
mod rules;

pub use destination::{
    Stance, after_failure, after_greeting, after_sign_of_life, forgotten_at, is_about_our_certificate,
    shows_in_greeting, stance,
};
pub use outlook::{Outlook, Turn};
pub use pace::Pace;
pub use rules::{
    gives_up_destination, is_about_content, is_alarming, judge_answer, judge_failure, quick_try, spare,
};
