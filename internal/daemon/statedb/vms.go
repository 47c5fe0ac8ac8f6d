package statedb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// InsertVM adds a VM and its first operation. A name in use is an errs.Exists.
func (db *DB) InsertVM(ctx context.Context, v vm.VM, op vm.Operation) error {
	err := db.tx(ctx, func(tx *sql.Tx) error {
		s := v.Spec
		if _, err := tx.ExecContext(ctx, `INSERT INTO vms (id, name, image, image_digest, kernel, vcpus, memory, system_disk, work_disk, remove_on_stop, state, reason, created_at, started_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			v.ID, s.Name, s.Image, s.ImageDigest, s.Kernel, s.VCPUs, s.Memory, s.System, s.Work, s.RemoveOnStop, v.State, v.Reason, nanos(v.CreatedAt), nanos(v.StartedAt)); err != nil {
			return err
		}
		return begin(ctx, tx, op)
	})
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return errs.New(errs.Exists, "the name %q is in use", v.Spec.Name).
			WithHint("choose another --name, or: banger vm delete %s", v.Spec.Name)
	}
	return err
}

// BindVM ties a VM that is being created to its image and kernel, if both are
// still there: an errs.Conflict if one was deleted meanwhile. config is the VM's
// own copy of the image's.
func (db *DB) BindVM(ctx context.Context, id vm.ID, digest, kernel string, config *vm.ImageConfig) error {
	text, err := jsonText(config)
	if err != nil {
		return err
	}
	return db.tx(ctx, func(tx *sql.Tx) error {
		var images, kernels int
		if err := tx.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM images WHERE digest = ?), (SELECT count(*) FROM kernels WHERE name = ?)",
			digest, kernel).Scan(&images, &kernels); err != nil {
			return err
		}
		if images == 0 || kernels == 0 {
			return errs.New(errs.Conflict, "the image or the kernel was deleted while the VM was being created").WithHint("try again")
		}
		_, err := tx.ExecContext(ctx, "UPDATE vms SET image_digest = ?, kernel = ?, config = ? WHERE id = ?", digest, kernel, text, id)
		return err
	})
}

// SetState records where a VM is in its life: state, reason, start and boot.
func (db *DB) SetState(ctx context.Context, v vm.VM) error {
	_, err := db.sql.ExecContext(ctx, "UPDATE vms SET state = ?, reason = ?, started_at = ?, boot_kernel = ?, boot_vcpus = ?, boot_memory = ? WHERE id = ?",
		v.State, v.Reason, nanos(v.StartedAt), v.Boot.Kernel, v.Boot.VCPUs, v.Boot.Memory, v.ID)
	return err
}

// SetBoot records what a VM is to have from its next start. A kernel that was
// deleted meanwhile is an errs.Conflict.
func (db *DB) SetBoot(ctx context.Context, id vm.ID, next vm.Boot) error {
	return db.tx(ctx, func(tx *sql.Tx) error {
		var kernels int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM kernels WHERE name = ?", next.Kernel).Scan(&kernels); err != nil {
			return err
		}
		if kernels == 0 {
			return errs.New(errs.Conflict, "the kernel %q was deleted meanwhile", next.Kernel).WithHint("banger kernel list")
		}
		_, err := tx.ExecContext(ctx, "UPDATE vms SET kernel = ?, vcpus = ?, memory = ? WHERE id = ?", next.Kernel, next.VCPUs, next.Memory, id)
		return err
	})
}

// DeleteVM removes a VM's row and its operation; removing none is fine.
func (db *DB) DeleteVM(ctx context.Context, id vm.ID) error {
	_, err := db.sql.ExecContext(ctx, "DELETE FROM vms WHERE id = ?", id)
	return err
}

// VMs returns all VMs, oldest first.
func (db *DB) VMs(ctx context.Context) ([]vm.VM, error) {
	return query(ctx, db, func(r *sql.Rows) (v vm.VM, err error) {
		var created, started int64
		var config string
		s := &v.Spec
		if err = r.Scan(&v.ID, &s.Name, &s.Image, &s.ImageDigest, &s.Kernel, &s.VCPUs, (*int64)(&s.Memory), (*int64)(&s.System), (*int64)(&s.Work),
			&s.RemoveOnStop, &v.State, &v.Reason, &created, &started, &v.Boot.Kernel, &v.Boot.VCPUs, (*int64)(&v.Boot.Memory), &config); err != nil {
			return v, err
		}
		v.CreatedAt, v.StartedAt = timeOf(created), timeOf(started)
		s.Config, err = jsonOf[vm.ImageConfig](config)
		return v, err
	}, `SELECT id, name, image, image_digest, kernel, vcpus, memory, system_disk, work_disk, remove_on_stop, state, reason, created_at, started_at, boot_kernel, boot_vcpus, boot_memory, config
		FROM vms ORDER BY created_at, id`)
}

// Journal records that a step of an action begins.
func (db *DB) Journal(ctx context.Context, op vm.Operation) error {
	return db.tx(ctx, func(tx *sql.Tx) error { return begin(ctx, tx, op) })
}

func begin(ctx context.Context, tx *sql.Tx, op vm.Operation) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO operations (vm_id, action, step, started_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (vm_id) DO UPDATE SET action = excluded.action, step = excluded.step`, op.VM, op.Action, op.Step, time.Now().UnixNano())
	return err
}

// EndOperation removes a VM's journal row.
func (db *DB) EndOperation(ctx context.Context, id vm.ID) error {
	_, err := db.sql.ExecContext(ctx, "DELETE FROM operations WHERE vm_id = ?", id)
	return err
}

// Operations returns the operations that have begun and not ended.
func (db *DB) Operations(ctx context.Context) ([]vm.Operation, error) {
	return query(ctx, db, func(r *sql.Rows) (op vm.Operation, err error) {
		return op, r.Scan(&op.VM, &op.Action, &op.Step)
	}, "SELECT vm_id, action, step FROM operations ORDER BY started_at")
}
