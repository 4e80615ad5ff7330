//! The allocator: mimalloc, in its second version. `allocator.c` beside this sets it up.

/// A request takes some thirty pieces of memory and gives them back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    /// Of this process, anonymous memory in RAM, in KiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.trim().strip_suffix("kB"));
        number
            .and_then(|number| number.trim().parse().ok())
            .expect("a number of KiB")
    }

    #[test]
    fn what_is_free_goes_back_to_the_system_at_once() {
        const KIB: usize = 256 * 1024;
        let pieces: Vec<Box<[u8; 4096]>> = (0..KIB / 4).map(|_| Box::new([1; 4096])).collect();
        let held = resident();
        drop(black_box(pieces));
        let kept = resident();
        // Other tests take some and give some back meanwhile.
        assert!(held - kept > KIB / 2, "{held} KiB, then {kept}");
    }
}
