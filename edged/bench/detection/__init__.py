"""Detection measured: `edged bench detect`, after the protocol that docs/results.md tells."""
