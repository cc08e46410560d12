//! What stands in `projections/`: every folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use daybook_journal::Upcasters;

use crate::definition::{CatalogueError, Definition, Texts};

/// Every projection of one folder, in order of name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    projections: Vec<Definition>,
}

impl Catalogue {
    /// Reads every folder of `dir` that has a `projection.toml`.
    pub fn load(dir: &Path) -> Result<Self, CatalogueError> {
        let unreadable = |source| CatalogueError::Unreadable { path: dir.to_owned(), source };
        let mut folders = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.join("projection.toml").is_file() {
                folders.push(path);
            }
        }
        folders.sort();
        let projections =
            folders.iter().map(|folder| load_folder(folder)).collect::<Result<Vec<_>, _>>()?;

        distinct(projections.iter())?;
        Ok(Self { projections })
    }

    /// The same, folding events in the form that these upcasters lift them to. Without this, events
    /// are folded in the form of whatever upcasters were installed last.
    #[must_use]
    pub fn reading(self, upcasters: &Upcasters) -> Self {
        let projections = self.projections.into_iter().map(|p| p.reading(upcasters)).collect();
        Self { projections }
    }

    /// The one projection whose folder this is.
    pub fn of_folder(folder: &Path) -> Result<Self, CatalogueError> {
        // `.` and `..` have no name of their own
        let folder = folder
            .canonicalize()
            .map_err(|source| CatalogueError::Unreadable { path: folder.to_owned(), source })?;
        let projections = vec![load_folder(&folder)?];
        distinct(projections.iter())?;
        Ok(Self { projections })
    }

    /// The projections, in order of name.
    pub fn projections(&self) -> &[Definition] {
        &self.projections
    }

    /// The projection of this name.
    pub fn projection(&self, name: &str) -> Option<&Definition> {
        self.projections.iter().find(|p| p.name == name)
    }
}

/// Refuses queries that share a name or a path.
pub(crate) fn distinct<'a>(
    projections: impl Iterator<Item = &'a Definition>,
) -> Result<(), CatalogueError> {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for query in projections.flat_map(|p| &p.queries) {
        let invalid =
            |detail| CatalogueError::Invalid { projection: query.projection.clone(), detail };
        if !names.insert(&query.name) {
            return Err(invalid(format!("query {}: the name is taken", query.name)));
        }
        let shape: Vec<_> =
            query.path.split('/').map(|s| if s.starts_with('{') { "{}" } else { s }).collect();
        if !paths.insert(shape) {
            return Err(invalid(format!("query {}: the path is taken", query.name)));
        }
    }
    Ok(())
}

fn load_folder(folder: &Path) -> Result<Definition, CatalogueError> {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|source| CatalogueError::Unreadable { path: path.to_owned(), source })
    };
    let mut queries = BTreeMap::new();
    if let Ok(entries) = fs::read_dir(folder.join("queries")) {
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(stem) = stem.filter(|_| path.extension().is_some_and(|e| e == "sql")) {
                queries.insert(stem.to_owned(), read(&path)?);
            }
        }
    }
    let texts = Texts {
        toml: read(&folder.join("projection.toml"))?,
        table: read(&folder.join("table.sql"))?,
        key: read(&folder.join("key.sql"))?,
        apply: read(&folder.join("apply.sql"))?,
        queries,
    };
    Definition::parse(name, texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_projections_load() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&dir).unwrap();
        let names: Vec<_> = catalogue.projections().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "attention",
                "customers",
                "orders",
                "payments",
                "sales_by_country",
                "sales_by_day",
                "sales_by_product",
                "stock"
            ]
        );
    }
}
