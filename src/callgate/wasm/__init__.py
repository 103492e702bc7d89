"""WebAssembly: modules run in a sandbox, behind the same interface as native libraries."""
