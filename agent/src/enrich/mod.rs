//! enrich (to be written).
