//! Secrets: files of mode 600 in one folder, read at the start, never logged.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use daybook_journal::MacKeys;

use crate::database::Login;

/// Bytes of each secret; files hold them as hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// The folder with the secrets.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Keys of event MACs: `mac-1`, `mac-2`, …
    pub(crate) fn mac_keys(&self) -> anyhow::Result<MacKeys> {
        let mut keys = BTreeMap::new();
        let entries = fs::read_dir(&self.dir).with_context(|| self.hint("mac-1"))?;
        for entry in entries {
            let name = entry?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix("mac-")) else {
                continue;
            };
            let number: u8 = number.parse().with_context(|| {
                format!("{}: a MAC key's number is 1 to 255", name.to_string_lossy())
            })?;
            keys.insert(number, self.read(&format!("mac-{number}"))?.to_vec());
        }
        MacKeys::new(keys).with_context(|| self.hint("mac-1"))
    }

    /// Key of idempotency fingerprints.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<[u8; SECRET_BYTES]> {
        self.read("fingerprint")
    }

    /// Key that seals gateway tokens in job rows.
    pub(crate) fn installation(&self) -> anyhow::Result<[u8; SECRET_BYTES]> {
        self.read("installation")
    }

    /// Key of the tokens that clients carry: positions and cursors of customers and partners.
    pub(crate) fn token(&self) -> anyhow::Result<[u8; SECRET_BYTES]> {
        self.read("token")
    }

    /// Name of the secret that is a role's password in PostgreSQL.
    pub(crate) fn database_secret(login: Login) -> String {
        format!("database-{}", login.as_str())
    }

    /// A role's password in PostgreSQL, as text.
    pub(crate) fn database_password(&self, login: Login) -> anyhow::Result<String> {
        self.read(&Self::database_secret(login)).map(hex::encode)
    }

    /// The same, made where it is missing.
    pub(crate) fn create_database_password(&self, login: Login) -> anyhow::Result<String> {
        self.create_dir()?;
        self.create(&Self::database_secret(login))?;
        self.database_password(login)
    }

    /// Makes the secrets that are missing. Returns their names.
    pub(crate) fn create_missing(&self) -> anyhow::Result<Vec<String>> {
        self.create_dir()?;
        let mut made = Vec::new();
        let fixed = ["mac-1", "fingerprint", "installation", "token", "sign"];
        let passwords = Login::ALL.into_iter().map(Self::database_secret);
        for name in fixed.into_iter().map(str::to_owned).chain(passwords) {
            if self.create(&name)? {
                made.push(name);
            }
        }
        Ok(made)
    }

    fn create_dir(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("folder {} can't be made", self.dir.display()))?;
        Ok(fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?)
    }

    /// Makes a secret; false where there is one.
    fn create(&self, name: &str) -> anyhow::Result<bool> {
        let path = self.dir.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Ok(mut file) => {
                writeln!(file, "{}", hex::encode(rand::random::<[u8; SECRET_BYTES]>()))?;
                file.sync_all()?;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }

    fn read(&self, name: &str) -> anyhow::Result<[u8; SECRET_BYTES]> {
        let path = self.dir.join(name);
        let text = fs::read_to_string(&path).with_context(|| self.hint(name))?;
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "secret {} can be read by others (mode {:o}): chmod 600 {}",
                name,
                mode & 0o777,
                path.display()
            );
        }
        let bytes = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.with_context(|| {
            format!("secret {name} must be {SECRET_BYTES} bytes in hexadecimal digits")
        })
    }

    fn hint(&self, name: &str) -> String {
        format!(
            "secret {name} is missing in {}; `daybook secrets create` makes what is missing \
             (never where a journal exists already: its MACs would not match)",
            self.dir.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_kept_and_readable_by_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(&dir.path().join("s"));
        assert!(secrets.fingerprint().unwrap_err().to_string().contains("secret fingerprint"));
        let made = secrets.create_missing().unwrap();
        assert_eq!(made.len(), 5 + Login::ALL.len());
        let first = secrets.fingerprint().unwrap();
        assert!(secrets.create_missing().unwrap().is_empty());
        assert_eq!(secrets.fingerprint().unwrap(), first);
        secrets.mac_keys().unwrap();
        for name in made {
            let mode = fs::metadata(dir.path().join("s").join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let passwords: std::collections::BTreeSet<String> =
            Login::ALL.map(|login| secrets.database_password(login).unwrap()).into();
        assert_eq!(passwords.len(), Login::ALL.len(), "each role has a password of its own");

        let path = dir.path().join("s/fingerprint");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(secrets.fingerprint().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(secrets.fingerprint().unwrap_err().to_string().contains("secret fingerprint"));
    }
}
