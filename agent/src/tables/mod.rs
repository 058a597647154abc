//! Indicators and policy → tables: image builders, provenance, generation (pure).
