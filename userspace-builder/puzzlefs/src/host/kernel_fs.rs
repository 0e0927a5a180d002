// SPDX-License-Identifier: Apache-2.0
//! Filesystems that store nothing: what they show is the state of the kernel.

use std::os::fd::AsFd;

use rustix::io::Result;

/// Magic numbers of include/uapi/linux/magic.h and of the filesystems themselves. devtmpfs is not
/// here: statfs(2) calls it tmpfs, and its files are some devices.
const KINDS: [(u64, &str); 25] = [
    (0x0187, "autofs"),
    (0x1cd1, "devpts"),
    (0x9fa0, "proc"),
    (0x0027_e0eb, "cgroup"),
    (0x0765_5821, "resctrl"),
    (0x1980_0202, "mqueue"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x4341_5d53, "smackfs"),
    (0x6165_676c, "pstore"),
    (0x6265_6570, "configfs"),
    (0x6265_6572, "sysfs"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x6573_5543, "fusectl"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6c6f_6f70, "binder"),
    (0x6e66_7364, "nfsd"),
    (0x6e73_6673, "nsfs"),
    (0x7363_6673, "securityfs"),
    (0x7472_6163, "tracefs"),
    (0x9584_58f6, "hugetlbfs"),
    (0xabba_1974, "xenfs"),
    (0xcafe_4a11, "bpf"),
    (0xde5e_81e4, "efivarfs"),
    (0xf97c_ff8c, "selinuxfs"),
];

/// The type of the filesystem that `file` is on, if it is one of these.
pub fn name(file: impl AsFd) -> Result<Option<&'static str>> {
    // The kernel's type is signed, and may have been extended from 32 bits.
    let magic = rustix::fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    let found = KINDS.iter().find(|(known, _)| *known == magic);
    Ok(found.map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    #[test]
    fn proc_is_the_kernels() {
        let name = |path| super::name(File::open(path).unwrap()).unwrap();
        assert_eq!(name("/proc/self/status"), Some("proc"));
        assert_eq!(name(env!("CARGO_MANIFEST_DIR")), None);
    }
}
