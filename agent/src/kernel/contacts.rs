//! Contacts that the hooks count, see [`agent_common::wire::Contact`].

use agent_common::limits::CONTACTS;
use agent_common::wire::{Contact, ContactKey};

use super::{Error, Kernel};

impl Kernel {
    /// Takes the contacts since the last call; none where [`super::Options::contacts`] is not set. What a process does between
    /// a contact's being read and removed is not counted: a count is the least that there was.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn take_contacts(&self) -> Result<Vec<(ContactKey, Contact)>, Error> {
        let failed = |source| Error::Bpf { what: "map CONTACTS".to_owned(), source };
        let mut taken = Vec::new();
        for key in self.contacts.keys(CONTACTS).map_err(failed)? {
            if let Some(contact) = self.contacts.get(&key).map_err(failed)? {
                taken.push((key, contact));
            }
            self.contacts.remove(&key).map_err(failed)?;
        }
        Ok(taken)
    }
}
