//! The public suite for storage backends.

crm_core::conformance_tests!(crm_storage_memory::MemoryStorage::new());
