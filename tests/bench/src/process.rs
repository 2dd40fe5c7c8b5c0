//! What the system keeps of a process, on Linux: `/proc/PID`.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use crate::BenchError;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// In user and kernel mode, on all threads.
    pub(crate) cpu: Duration,
    /// Bytes that it has caused to be written to a disk.
    pub(crate) written: u64,
}

/// What a process has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    /// Bytes, now.
    pub(crate) resident: u64,
    /// The most there ever were.
    pub(crate) peak: u64,
}

impl Usage {
    /// Of the process with this number, which has to be one of the same user.
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        Self::read(&pid.to_string())
    }

    /// Of this process.
    pub(crate) fn own() -> Result<Self, BenchError> {
        Self::read("self")
    }

    fn read(process: &str) -> Result<Self, BenchError> {
        let stat = read(process, "stat")?;
        let written = number(&read(process, "io")?, "write_bytes:");
        let cpu = cpu_ticks(&stat).map(|ticks| {
            let per_second = rustix::param::clock_ticks_per_second().max(1);
            Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second)
        });
        match (cpu, written) {
            (Some(cpu), Some(written)) => Ok(Self { cpu, written }),
            _ => Err(unknown(process)),
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

impl Memory {
    /// Of the process with this number.
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        let process = pid.to_string();
        let status = read(&process, "status")?;
        match (number(&status, "VmRSS:"), number(&status, "VmHWM:")) {
            (Some(resident), Some(peak)) => Ok(Self { resident: resident << 10, peak: peak << 10 }),
            _ => Err(unknown(&process)),
        }
    }

    /// The most there ever were is from now on what there is now.
    pub(crate) fn forget_peak(pid: u32) -> Result<(), BenchError> {
        let path = format!("/proc/{pid}/clear_refs");
        fs::write(&path, "5").map_err(|source| BenchError::Io { what: path, source })
    }
}

fn read(process: &str, file: &str) -> Result<String, BenchError> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).map_err(|source| BenchError::Io { what: path, source })
}

fn unknown(process: &str) -> BenchError {
    BenchError::Generator(format!("/proc/{process} does not say what Linux says there"))
}

/// `utime` and `stime`, the 14th and 15th field. The second is the program's name in parentheses, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The number behind a key at the beginning of a line.
fn number(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "4242 (post ) rider) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        let status = "Name:\tpostrider\nVmHWM:\t   12345 kB\nVmRSS:\t   10000 kB\n";
        assert_eq!((number(status, "VmHWM:"), number(status, "VmRSS:")), (Some(12_345), Some(10_000)));
        assert_eq!(number(status, "VmSwap:"), None);
    }

    #[test]
    fn knows_this_process() {
        let pid = std::process::id();
        assert!(Usage::of(pid).unwrap().cpu <= Usage::own().unwrap().cpu);
        let memory = Memory::of(pid).unwrap();
        assert!(0 < memory.resident && memory.resident <= memory.peak);
    }
}
