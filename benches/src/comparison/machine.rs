//! What the figures were measured on, and with which versions.

use std::fmt;
use std::fs;
use std::thread;

/// This machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor, as the kernel names it.
    pub cpu: String,
    /// How many of its threads there are for this program.
    pub cores: usize,
    /// All memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// Asks the system. What it does not tell is `unknown`, or 0.
    #[must_use]
    pub fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: cpu(&read("/proc/cpuinfo")),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            kernel: or_unknown(read("/proc/sys/kernel/osrelease").trim()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gibibytes = self.memory_bytes as f64 / f64::from(1_u32 << 30);
        write!(
            f,
            "{}, {} threads of it; {gibibytes:.1} GiB of memory; Linux {}",
            self.cpu, self.cores, self.kernel
        )
    }
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

/// x86-64 has a name here, ARM only numbers.
fn cpu(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.trim() == name);
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    let by_number = || {
        let (implementer, part) = (field("CPU implementer")?, field("CPU part")?);
        Some(format!("CPU implementer {implementer} part {part}"))
    };
    let name = field("model name").or_else(by_number);
    or_unknown(&name.unwrap_or_default())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.map(|total| total.trim().trim_end_matches(" kB").parse::<u64>());
    kibibytes.and_then(Result::ok).unwrap_or(0) * 1024
}

/// The versions of these packages that this workspace is built with, as its lock file says.
#[must_use]
pub fn locked_versions<'a>(names: &[&'a str]) -> Vec<(&'a str, String)> {
    versions_in(include_str!("../../../Cargo.lock"), names)
}

fn versions_in<'a>(lock: &str, names: &[&'a str]) -> Vec<(&'a str, String)> {
    let quoted = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        value.strip_suffix('"').map(str::to_owned)
    };
    let packages: Vec<(String, String)> = lock
        .split("[[package]]")
        .filter_map(|package| {
            let of = |key| package.lines().find_map(|line| quoted(line, key));
            Some((of("name")?, of("version")?))
        })
        .collect();
    let find = |name: &&'a str| {
        let found = packages.iter().find(|(package, _)| package == name)?;
        Some((*name, found.1.clone()))
    };
    names.iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name_or_numbers() {
        let x86 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n";
        assert_eq!(cpu(x86), "AMD EPYC");
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(cpu(arm), "CPU implementer 0x41 part 0xd40");
        assert_eq!(cpu(""), "unknown");
        assert_eq!(memory_bytes("MemFree: 1 kB\nMemTotal:   16 kB\n"), 16_384);
        assert_eq!(memory_bytes(""), 0);
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"b\"\nversion = \"2\"\n";
        assert_eq!(versions_in(lock, &["b", "c"]), [("b", "2".to_owned())]);
        assert_eq!(locked_versions(&["aws-sdk-dynamodb"]).len(), 1);
    }
}
