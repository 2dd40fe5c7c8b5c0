//! A slice of the benchmark, with relays of the profile that the tests are built in: the same as the program
//! `postrider-bench` does with more load.

#[cfg(test)]
#[path = "slice/scenarios.rs"]
mod scenarios;
