//! What a task asks the kernel to hand out or to take away: BPF objects, pins, mounts.

use super::file::{OFF_FILE_INODE, OFF_INODE_INO, OFF_INODE_SB, device};
use super::path::{
    OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_FILE_PATH, OFF_MNT_ROOT, OFF_MOUNT_MNT, OFF_PATH_DENTRY, OFF_QSTR_NAME,
};
use super::{Address, offsets, task};

offsets! {
    OFF_MAP_ID: "`bpf_map.id`",
    OFF_PROG_AUX: "`bpf_prog.aux`",
    OFF_AUX_ID: "`bpf_prog_aux.id`",
    OFF_LINK_ID: "`bpf_link.id`",
    OFF_TASK_FILES: "`task_struct.files`",
    OFF_FILES_TABLE: "`files_struct.fdt`",
    OFF_TABLE_SIZE: "`fdtable.max_fds`",
    OFF_TABLE_FILES: "`fdtable.fd`",
    OFF_FILE_PRIVATE: "`file.private_data`",
    OFF_DENTRY_INODE: "`dentry.d_inode`",
    OFF_SB_ACTIVE: "`super_block.s_active`",
    OFF_MOUNT_NS: "`mount.mnt_ns`",
    OFF_NS_COMMON: "`mnt_namespace.ns`",
    OFF_NS_NUMBER: "`ns_common.inum`",
}

/// The id of a `struct bpf_map`.
#[inline(always)]
pub fn map_id(map: Address) -> u32 {
    map.value(&OFF_MAP_ID)
}

/// The id of a `struct bpf_prog`.
#[inline(always)]
pub fn program_id(program: Address) -> u32 {
    program.follow(&OFF_PROG_AUX).value(&OFF_AUX_ID)
}

/// The id of the link behind a descriptor of the current task; of what is no link, any number.
#[inline(always)]
pub fn link_id(descriptor: u32) -> u32 {
    let table = task::current().follow(&OFF_TASK_FILES).follow(&OFF_FILES_TABLE);
    let size: u32 = table.value(&OFF_TABLE_SIZE);
    if descriptor >= size {
        return 0;
    }
    let file = Address::new(table.follow(&OFF_TABLE_FILES).plus(u64::from(descriptor) << 3).read());
    file.follow(&OFF_FILE_PRIVATE).value(&OFF_LINK_ID)
}

/// The folders of a pin up to the pin directory, itself included: `DIR/vN/links/NAME`.
const DEPTH: u32 = 4;

/// Whether a `struct dentry` is the folder `inode` of the file system `device`, or lies in it.
#[inline(always)]
pub fn is_within(dentry: Address, folder: Address, device_wanted: u64, inode_wanted: u64) -> bool {
    // Whatever is removed on another file system ends here.
    if device(folder) != device_wanted {
        return false;
    }
    let mut dentry = dentry;
    for _ in 0..DEPTH {
        let inode: u64 = dentry.follow(&OFF_DENTRY_INODE).value(&OFF_INODE_INO);
        if inode == inode_wanted {
            return true;
        }
        dentry = dentry.follow(&OFF_DENTRY_PARENT);
    }
    false
}

/// A `struct vfsmount`: device of its file system, number of the mount namespace that it is in, and whether it is the last
/// mount of that file system.
pub struct Mounted {
    /// `super_block.s_dev`.
    pub device: u64,
    /// As `/proc/PID/ns/mnt` gives it.
    pub namespace: u32,
    /// Nobody else holds the file system: each mount of it does.
    pub is_last: bool,
}

/// What there is to know of a `struct vfsmount`.
#[inline(always)]
pub fn mounted(mount: Address) -> Mounted {
    let inode = mount.follow(&OFF_MNT_ROOT).follow(&OFF_DENTRY_INODE);
    let holders: u32 = inode.follow(&OFF_INODE_SB).value(&OFF_SB_ACTIVE);
    Mounted {
        device: device(inode),
        namespace: mount.container(&OFF_MOUNT_MNT).follow(&OFF_MOUNT_NS).field(&OFF_NS_COMMON).value(&OFF_NS_NUMBER),
        is_last: holders == 1,
    }
}

/// `super_block.s_dev` of a `struct file`.
#[inline(always)]
pub fn device_of(file: Address) -> u64 {
    device(file.follow(&OFF_FILE_INODE))
}

/// Where the name of a `struct file` is, without the folders above it: NUL-terminated.
#[inline(always)]
pub fn name_of(file: Address) -> Address {
    file.field(&OFF_FILE_PATH).follow(&OFF_PATH_DENTRY).field(&OFF_DENTRY_NAME).follow(&OFF_QSTR_NAME)
}
