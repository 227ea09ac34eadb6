/* The commands of migrations as clients see them: an extension of RCP. */
#include "engines/machine/machine_internal.h"

#define MEMBER(type, member) offsetof(struct type, member)

static const char doc_limit[] = "Entries of the list; 100 if absent, 1000 at most.";
static const char doc_offset[] = "Entries to pass over.";

static const struct kt_field migrate_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_migrate_params, machine), KT_FIELD_REQUIRED | KT_FIELD_NON_EMPTY,
     MACHINE_NAME_BYTES_MAX, "Name of the machine."},
    {"from_version", KT_FIELD_U64, MEMBER(kt_machine_migrate_params, from_version), KT_FIELD_REQUIRED,
     MACHINE_VERSION_MAX, "The version that instances leave."},
    {"to_version", KT_FIELD_U64, MEMBER(kt_machine_migrate_params, to_version), KT_FIELD_REQUIRED, MACHINE_VERSION_MAX,
     "The version that they move to."},
    {"states", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_migrate_params, states), 0, MACHINE_MIGRATION_BYTES_MAX,
     "Old state to new state. A state that is not named keeps its name, if the new version has it."},
    {"ctx_defaults", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_migrate_params, ctx_defaults), 0,
     MACHINE_MIGRATION_BYTES_MAX, "Members that are added to a context where they are missing."},
    {"ctx_renames", KT_FIELD_JSON_OBJECT, MEMBER(kt_machine_migrate_params, ctx_renames), 0,
     MACHINE_MIGRATION_BYTES_MAX, "Old member to new member."},
    {"ctx_removed", KT_FIELD_JSON, MEMBER(kt_machine_migrate_params, ctx_removed), 0, MACHINE_MIGRATION_BYTES_MAX,
     "Members that go, an array of names."},
    {"dry_run", KT_FIELD_BOOL, MEMBER(kt_machine_migrate_params, dry_run), 0, 0,
     "Only counts, and lists what could not be moved and why."},
    {"limit", KT_FIELD_U64, MEMBER(kt_machine_migrate_params, limit), 0, 0, doc_limit},
    {"offset", KT_FIELD_U64, MEMBER(kt_machine_migrate_params, offset), 0, 0, doc_offset},
    {"idempotency_key", KT_FIELD_TEXT, MEMBER(kt_machine_migrate_params, idempotency_key), 0, MACHINE_ID_BYTES_MAX,
     "A repetition with the same key within 24 hours gets the first answer."},
};

static const struct kt_field migration_fields[] = {
    {"migration_id", KT_FIELD_U64, MEMBER(kt_machine_migration_params, migration_id), KT_FIELD_REQUIRED, 0,
     "As MIGRATE_INSTANCES answered it."},
    {"limit", KT_FIELD_U64, MEMBER(kt_machine_migration_params, limit), 0, 0, doc_limit},
    {"offset", KT_FIELD_U64, MEMBER(kt_machine_migration_params, offset), 0, 0, doc_offset},
};

static const struct kt_field migrations_fields[] = {
    {"machine", KT_FIELD_TEXT, MEMBER(kt_machine_migrations_params, machine), 0, MACHINE_NAME_BYTES_MAX,
     "Only those of this machine."},
};

static const enum kt_code migrate_errors[] = {KT_MACHINE_NOT_FOUND, KT_CONFLICT, KT_TOO_LARGE, KT_OK};
static const enum kt_code end_errors[] = {KT_NOT_FOUND, KT_CONFLICT, KT_OK};
static const enum kt_code get_errors[] = {KT_NOT_FOUND, KT_OK};
static const enum kt_code list_errors[] = {KT_TOO_LARGE, KT_OK};

static const struct kt_command dry_run_command = {
    .name = "machine.try_migration",
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_migrate_params, migrate_fields),
    .query = machine_migrate_query,
    .scans = true,
    .errors = migrate_errors,
    .doc = "What MIGRATE_INSTANCES would do: how many instances would move, and which could not and why.",
};

static const struct kt_command *choose_migrate(const void *params)
{
    return ((const struct kt_machine_migrate_params *)params)->dry_run ? &dry_run_command : NULL;
}

const struct kt_command machine_migrate_command = {
    .name = "machine.migrate",
    .wire = {.rcp = "MIGRATE_INSTANCES"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_ADMIN,
    .params = KT_STRUCT(struct kt_machine_migrate_params, migrate_fields),
    .prepare = machine_migrate_prepare,
    .instead = choose_migrate,
    .errors = migrate_errors,
    .doc = "Begins to move the instances of one version of a machine to another. With dry_run nothing is changed.",
};

const struct kt_command machine_undo_command = {
    .name = "machine.undo_migration",
    .wire = {.rcp = "UNDO_MIGRATION"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_ADMIN,
    .params = KT_STRUCT(struct kt_machine_migration_params, migration_fields),
    .prepare = machine_undo_prepare,
    .errors = end_errors,
    .doc = "Begins to give back to moved instances what they were, as far as nothing happened to them since.",
};

const struct kt_command machine_confirm_command = {
    .name = "machine.confirm_migration",
    .wire = {.rcp = "CONFIRM_MIGRATION"},
    .kind = KT_WRITE,
    .needs = KT_PERMISSION_ADMIN,
    .params = KT_STRUCT(struct kt_machine_migration_params, migration_fields),
    .prepare = machine_confirm_prepare,
    .errors = end_errors,
    .doc = "Ends a migration for good: what instances were is not kept any longer.",
};

const struct kt_command machine_migration_command = {
    .name = "machine.get_migration",
    .wire = {.rcp = "GET_MIGRATION"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_migration_params, migration_fields),
    .query = machine_migration_query,
    .scans = true,
    .errors = get_errors,
    .doc = "How far a migration is, and the instances that it could not move, or not move back.",
};

const struct kt_command machine_migrations_command = {
    .name = "machine.list_migrations",
    .wire = {.rcp = "LIST_MIGRATIONS"},
    .kind = KT_READ,
    .needs = KT_PERMISSION_READ,
    .params = KT_STRUCT(struct kt_machine_migrations_params, migrations_fields),
    .query = machine_migrations_query,
    .scans = true,
    .errors = list_errors,
    .doc = "The migrations, oldest first.",
};
