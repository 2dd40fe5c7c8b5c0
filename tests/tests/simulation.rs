//! Clusters in memory, under faults that a seed decides: what `simulate` does for as long as one likes.

#[cfg(test)]
#[path = "simulation/engine.rs"]
mod engine;
#[cfg(test)]
#[path = "simulation/reproductions.rs"]
mod reproductions;
#[cfg(test)]
#[path = "simulation/seeds.rs"]
mod seeds;
