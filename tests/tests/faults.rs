//! The short forms of `faults` (see `tests/README.md`): the same program, with small numbers.

use std::path::Path;
use std::process::Command;

use tests::foreign::{Foreign, skip};
use tests::process::finish;

/// Runs `faults` with `words`, shows what it says, and fails if it fails. `needs` are programs of others.
fn faults(test: &str, needs: &[&str], words: &[&str]) {
    if Foreign::need_all(test, needs).is_none() || !may_mount(test) {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_faults"));
    // The program under test is built, or found, only once.
    command.args(words).env("GATEPOST", tests::server::program());
    let finished = finish(&mut command);
    eprintln!("{}{}", finished.stdout, finished.stderr);
    finished.expect_success(&format!("faults {}", words.join(" ")));
}

/// True if this process may mount files: it is root, and there are loop devices.
fn may_mount(test: &str) -> bool {
    if !Foreign::need_root(test) {
        return false;
    }
    let loops = Path::new("/dev/loop-control").exists();
    if !loops {
        skip(test, "loop devices");
    }
    loops
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_ext4_is_cut() {
    let test = "nothing_acknowledged_is_lost_when_the_power_of_ext4_is_cut";
    let needs = ["xfs_io", "mkfs.ext4", "losetup"];
    faults(test, &needs, &["cuts", "--fs", "ext4", "--cuts", "20"]);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_xfs_is_cut() {
    let test = "nothing_acknowledged_is_lost_when_the_power_of_xfs_is_cut";
    let needs = ["xfs_io", "mkfs.xfs", "losetup"];
    faults(test, &needs, &["cuts", "--fs", "xfs", "--cuts", "20"]);
}

#[test]
fn kill_loses_nothing_and_repeats_only_what_was_in_flight() {
    let test = "kill_loses_nothing_and_repeats_only_what_was_in_flight";
    faults(test, &[], &["kills", "--rounds", "20"]);
}

#[test]
fn a_failed_flush_is_never_a_250() {
    faults("a_failed_flush_is_never_a_250", &["strace"], &["flushes"]);
}

#[test]
fn a_call_that_fails_ends_in_a_refusal_or_in_a_message_that_is_kept() {
    let test = "a_call_that_fails_ends_in_a_refusal_or_in_a_message_that_is_kept";
    faults(test, &["strace"], &["calls", "--errors", "EIO,KILL", "--most", "10"]);
}

#[test]
fn a_full_disk_refuses_for_now_and_goes_on_delivering() {
    let test = "a_full_disk_refuses_for_now_and_goes_on_delivering";
    faults(test, &["mkfs.ext4", "losetup"], &["full", "--what", "octets"]);
}

#[test]
fn a_disk_without_inodes_refuses_for_now_and_goes_on_delivering() {
    let test = "a_disk_without_inodes_refuses_for_now_and_goes_on_delivering";
    faults(test, &["mkfs.ext4", "losetup"], &["full", "--what", "inodes"]);
}

#[test]
fn a_flipped_bit_costs_one_message_at_most() {
    let test = "a_flipped_bit_costs_one_message_at_most";
    faults(test, &[], &["bits", "--flips", "10"]);
}

#[test]
fn a_clock_that_jumps_bounces_nothing() {
    faults("a_clock_that_jumps_bounces_nothing", &["faketime"], &["clock", "--years", "10"]);
}

#[test]
fn whatever_writes_a_power_cut_drops_or_tears_nothing_acknowledged_is_lost() {
    let test = "whatever_writes_a_power_cut_drops_or_tears_nothing_acknowledged_is_lost";
    if !Path::new("/dev/fuse").exists() {
        skip(test, "/dev/fuse");
        return;
    }
    faults(test, &["mkfs.ext4", "losetup"], &["states", "--fs", "ext4", "--states", "20"]);
}
