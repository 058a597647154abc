//! Where the fields of kernel structures are, from the kernel's own type information (BTF,
//! `Documentation/bpf/btf.rst`). aya reads it too but keeps member access to itself.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// `BTF_KIND_TYPEDEF`, for [`Structures::id`].
pub(super) const TYPEDEF: u32 = 8;
/// `BTF_KIND_FUNC`, for [`Structures::id`].
pub(super) const FUNC: u32 = 12;

/// The structures of a kernel, by name.
pub(super) struct Structures<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type's record; index is the type id less 1.
    types: Vec<usize>,
    by_name: HashMap<&'a [u8], usize>,
    /// The type id that each typedef stands for.
    typedefs: HashMap<&'a [u8], u32>,
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let part = bytes.get(offset..offset.checked_add(4)?)?;
    part.try_into().ok().map(u32::from_ne_bytes)
}

/// Bytes that follow a type's 12-byte record; `None` for a kind that is not known.
fn trailing(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        2 | 7..=12 | 16 | 18 => 0,
        3 => 12,
        KIND_STRUCT | KIND_UNION | 15 | 19 => count * 12,
        6 | 13 => count * 8,
        _ => return None,
    })
}

impl<'a> Structures<'a> {
    /// Reads a BTF blob, such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let short = || "cut short".to_owned();
        let magic = bytes.get(..2).and_then(|part| part.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(short)?;
        if magic != MAGIC {
            return Err(format!("begins with {magic:#06x}, which is not BTF"));
        }
        let field = |offset| u32_at(bytes, offset).map(|value| value as usize).ok_or_else(short);
        let (header, type_offset, type_length) = (field(4)?, field(8)?, field(12)?);
        let (string_offset, string_length) = (field(16)?, field(20)?);
        let part = |offset: usize, length: usize| {
            let start = header.checked_add(offset)?;
            bytes.get(start..start.checked_add(length)?)
        };
        let strings = part(string_offset, string_length).ok_or_else(short)?;
        let end = part(type_offset, type_length).map(|_| header + type_offset + type_length).ok_or_else(short)?;
        let mut found = Self { bytes, strings, types: Vec::new(), by_name: HashMap::new(), typedefs: HashMap::new() };
        let mut at = header + type_offset;
        while at < end {
            let info = u32_at(bytes, at + 4).ok_or_else(short)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let after = trailing(kind, count)
                .ok_or_else(|| format!("type {} is of kind {kind}, which is not known", found.types.len() + 1))?;
            // A structure without a name, as `socket_lock_t` is one, goes by that of its typedef.
            if kind == TYPEDEF {
                let name = found.name(u32_at(bytes, at).ok_or_else(short)?);
                let target = u32_at(bytes, at + 8).ok_or_else(short)?;
                found.typedefs.entry(name).or_insert(target);
            }
            if kind == KIND_STRUCT {
                let name = found.name(u32_at(bytes, at).ok_or_else(short)?);
                if !name.is_empty() {
                    found.by_name.entry(name).or_insert(at);
                }
            }
            found.types.push(at);
            at += 12 + after;
        }
        Ok(found)
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The id of the first type of that kind (`BTF_KIND_*`) and name, which a program is loaded for.
    pub(super) fn id(&self, kind: u32, name: &str) -> Option<u32> {
        let is_wanted = |at: &usize| {
            u32_at(self.bytes, at + 4).is_some_and(|info| info >> 24 & 0x1f == kind)
                && u32_at(self.bytes, *at).is_some_and(|offset| self.name(offset) == name.as_bytes())
        };
        u32::try_from(self.types.iter().position(is_wanted)? + 1).ok()
    }

    /// Byte offset of `member` in `structure`, or in what a typedef of that name stands for; looked for in anonymous members too; `None` when there is none, or when
    /// it is a bit field.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u64> {
        let by_typedef = || {
            let target = self.typedefs.get(structure.as_bytes())?.checked_sub(1)?;
            self.types.get(target as usize)
        };
        let at = *self.by_name.get(structure.as_bytes()).or_else(by_typedef)?;
        let bits = self.member(at, member.as_bytes(), 0)?;
        (bits % 8 == 0).then_some(u64::from(bits / 8))
    }

    fn member(&self, at: usize, wanted: &[u8], depth: usize) -> Option<u32> {
        const DEEPEST: usize = 8;
        let info = u32_at(self.bytes, at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if depth > DEEPEST || (kind != KIND_STRUCT && kind != KIND_UNION) {
            return None;
        }
        for index in 0..count {
            let record = at + 12 + index * 12;
            let name = self.name(u32_at(self.bytes, record)?);
            let raw = u32_at(self.bytes, record + 8)?;
            // With kind_flag the upper byte is the width of a bit field, 0 for an ordinary member.
            let (bits, width) = if info >> 31 == 1 { (raw & 0xff_ffff, raw >> 24) } else { (raw, 0) };
            if name == wanted && width == 0 {
                return Some(bits);
            }
            if name.is_empty() {
                let inner = u32_at(self.bytes, record + 4)?.checked_sub(1)?;
                let nested = self.types.get(inner as usize).and_then(|at| self.member(*at, wanted, depth + 1));
                if let Some(more) = nested {
                    return Some(bits + more);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
