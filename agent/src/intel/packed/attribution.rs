//! Who and what, packed.

use super::{Reader, put_number, put_text};
use crate::intel::{Attribution, Name, Path};

const PATHS: [Path; 4] = [Path::Indicates, Path::Report, Path::MispAttribute, Path::Label];

pub(super) fn put(bytes: &mut Vec<u8>, attribution: &Attribution) {
    let Attribution { actors, campaigns, malware, techniques, reports, references } = attribution;
    for names in [actors, campaigns, malware, techniques] {
        put_number(bytes, names.len() as u64);
        for name in names {
            put_text(bytes, &name.name);
            bytes.push(PATHS.iter().position(|path| *path == name.path).unwrap_or_default() as u8);
        }
    }
    put_texts(bytes, reports);
    put_texts(bytes, references);
}

pub(super) fn put_texts(bytes: &mut Vec<u8>, texts: &[String]) {
    put_number(bytes, texts.len() as u64);
    texts.iter().for_each(|text| put_text(bytes, text));
}

pub(super) fn get(reader: &mut Reader<'_>) -> Option<Attribution> {
    Some(Attribution {
        actors: names(reader)?,
        campaigns: names(reader)?,
        malware: names(reader)?,
        techniques: names(reader)?,
        reports: texts(reader)?,
        references: texts(reader)?,
    })
}

fn names(reader: &mut Reader<'_>) -> Option<Vec<Name>> {
    let count = reader.count()?;
    let name = |_| Some(Name { name: reader.text()?.to_owned(), path: *PATHS.get(usize::from(reader.byte()?))? });
    (0..count).map(name).collect()
}

pub(super) fn texts(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let count = reader.count()?;
    (0..count).map(|_| reader.text().map(str::to_owned)).collect()
}
