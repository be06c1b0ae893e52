//! What Linux tells of processes and of the machine: memory, and who had the processors.

use std::{
    fs, io, process,
    time::{Duration, Instant},
};

/// Memory at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub at: Instant,
    pub bytes: u64,
}

/// The resident memory of a process now, in bytes.
pub fn resident(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    field(&status, "VmRSS:").ok_or_else(untold)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// The processor time that a process has used by now. Unlike what the clock says, it hardly depends on what others do.
pub fn processor_time(process: u32) -> io::Result<Duration> {
    // Linux counts in hundredths of a second, whatever its kernel does by itself.
    const TICK: Duration = Duration::from_millis(10);
    let ticks = used(&fs::read_to_string(format!("/proc/{process}/stat"))?).ok_or_else(untold)?;
    Ok(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// As people read it.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Processor time since the machine or the process began, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    /// That there was.
    machine: u64,
    /// That somebody used.
    busy: u64,
    /// That the server and this process used.
    ours: u64,
}

impl Ticks {
    /// Now, with the server's process.
    pub fn now(server: u32) -> io::Result<Self> {
        let (machine, busy) = machine(&fs::read_to_string("/proc/stat")?).ok_or_else(untold)?;
        let mut ours = 0;
        for process in [server, process::id()] {
            ours += used(&fs::read_to_string(format!("/proc/{process}/stat"))?).ok_or_else(untold)?;
        }
        Ok(Self { machine, busy, ours })
    }

    /// The part of the machine, from 0 to 1, that others used from then to `later`. What is measured beside them is not
    /// what the server can do.
    pub fn others(self, later: Self) -> f64 {
        let busy = later.busy.saturating_sub(self.busy);
        let ours = later.ours.saturating_sub(self.ours);
        busy.saturating_sub(ours) as f64 / later.machine.saturating_sub(self.machine).max(1) as f64
    }
}

/// All ticks of all processors, and those in which they were busy.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are counted as users already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = ticks.iter().sum();
    Some((all, all - ticks.get(3)? - ticks.get(4)?))
}

/// The ticks of a process, of its own code and of the system on its behalf.
fn used(stat: &str) -> Option<u64> {
    // The name before the last parenthesis may have anything in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn untold() -> io::Error {
    io::Error::other("the system does not tell it under /proc as Linux does")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "VmPeak:\t  9000 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(2 << 20));
        assert_eq!(field(status, "VmSwap:"), None);
        assert_eq!(machine("cpu  10 1 5 60 4 0 2 3 7 0\ncpu0 1 1\n"), Some((85, 21)));
        assert_eq!(used("7 (a) b) S 1 7 7 0 -1 4 90 0 0 0 120 30 0 0 20"), Some(150));
    }

    #[test]
    fn what_others_used_is_what_was_used_and_not_by_us() {
        let before = Ticks { machine: 1000, busy: 400, ours: 100 };
        let later = Ticks { machine: 1200, busy: 550, ours: 200 };
        assert!((before.others(later) - 0.25).abs() < 1e-9);
        assert!(before.others(before).abs() < 1e-9);
    }
}
