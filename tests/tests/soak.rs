//! A short soak: the same as the program `soak` does for as long as one likes.

#[cfg(test)]
#[path = "soak/short.rs"]
mod short;
