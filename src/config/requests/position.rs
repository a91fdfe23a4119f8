//! Where what a warning is about is written in an entry of `requests`.

use super::super::finding::Position;
use super::super::keys::{List, value};
use super::EntryFile;
use crate::rules::{EntryKey, EntryPlace};

/// The position of what is meant of the entry `number`, from 1. Where a key is missing, it is the key beside which it would stand.
pub(in crate::config) fn entry_position(
    list: &List<EntryFile>,
    number: usize,
    place: EntryPlace,
) -> Option<Position> {
    // Of a configuration without errors: no item is missing.
    let at = value(list)?.get(number.checked_sub(1)?)?;
    let found = at.value.as_ref().and_then(|entry| match place {
        EntryPlace::Whole => None,
        EntryPlace::Key(key) => of_key(entry, key, None),
        EntryPlace::Item(key, item) => of_key(entry, key, Some(item)),
    });
    Some(found.unwrap_or(at.position))
}

fn of_key(entry: &EntryFile, key: EntryKey, item: Option<usize>) -> Option<Position> {
    let aws = value(&entry.aws);
    let below_aws = |found: Option<Position>| {
        found.or(entry.aws.as_ref().map(|at| at.position)).or_else(|| of(&entry.git, None))
    };
    match key {
        EntryKey::Methods => of(&entry.methods, item),
        EntryKey::Paths => of(&entry.paths, item).or_else(|| of(&entry.methods, None)),
        EntryKey::Git => of(&entry.git, item),
        EntryKey::Repositories => of(&entry.repositories, item),
        EntryKey::Refs => of(&entry.refs, item),
        EntryKey::RefChanges => of(&entry.ref_changes, item).or_else(|| of(&entry.git, None)),
        EntryKey::Aws => below_aws(None),
        EntryKey::Accounts => below_aws(aws.and_then(|aws| of(&aws.accounts, item))),
        EntryKey::Services => below_aws(aws.and_then(|aws| of(&aws.services, item))),
    }
}

/// The position of an item, from 0, or of the list.
fn of<T>(list: &List<T>, item: Option<usize>) -> Option<Position> {
    let at = list.as_ref()?;
    let item = item.and_then(|number| at.value.as_ref()?.get(number));
    Some(item.map_or(at.position, |item| item.position))
}
