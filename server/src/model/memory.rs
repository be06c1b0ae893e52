//! How much memory versions may take.

use std::fs;

use vitrine_models::DeviceSpec;

/// Left free whatever happens: for indexes, caches, and the rest of the machine.
const RESERVE: u64 = 256 << 20;

/// The memory that versions on `device` may take together, in bytes, when they take `used` now: what is free, and no more
/// than `budget` (0: no such bound).
pub(super) fn allowed(device: DeviceSpec, budget: u64, used: u64) -> u64 {
    let bound = if budget == 0 { u64::MAX } else { budget };
    free(device).map_or(bound, |free| bound.min(used.saturating_add(free)))
}

/// What `device` has left for whoever asks now, in bytes, beside what stays free whatever happens. `None` where it does not say.
pub fn free(device: DeviceSpec) -> Option<u64> {
    let free = match device {
        DeviceSpec::Cpu => free_memory(),
        DeviceSpec::Cuda(_) => device.free_memory(),
    };
    free.map(|free| free.saturating_sub(RESERVE))
}

/// What the system could give without swapping, in bytes: the least of what the machine and our control group leave.
/// `None` where it does not say.
fn free_memory() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(most, now)| {
        // Pages of files count as used there, and leave when they are in the way.
        let files = read("memory.stat").and_then(|text| field(&text, "inactive_file")).unwrap_or(0);
        most.saturating_sub(now.saturating_sub(files))
    });
    [machine, group].into_iter().flatten().min()
}

fn meminfo(text: &str) -> Option<u64> {
    field(text, "MemAvailable:").map(|kilobytes| kilobytes * 1024)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    3 kB\n"), Some(3072));
        assert_eq!(meminfo("nothing"), None);
        assert_eq!(field("anon 5\ninactive_file 7\n", "inactive_file"), Some(7));
    }

    #[test]
    fn a_budget_bounds_what_is_free_and_what_is_used_stays_allowed() {
        assert_eq!(allowed(DeviceSpec::Cpu, 10, 4), 10);
        assert!(allowed(DeviceSpec::Cpu, 0, 1 << 50) >= 1 << 50);
        assert_eq!(allowed(DeviceSpec::Cuda(4096), 0, 0), u64::MAX, "a device that says nothing has no bound");
    }
}
