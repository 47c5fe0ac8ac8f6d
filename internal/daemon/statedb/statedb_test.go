package statedb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/daemon/statedb"
	"banger/internal/vm"
)

func open(t *testing.T, path string) *statedb.DB {
	t.Helper()
	db, err := statedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func sample(id vm.ID, name vm.Name) vm.VM {
	return vm.VM{
		ID:    id,
		Spec:  vm.Spec{Name: name, Image: "img", VCPUs: 2, Memory: vm.GiB, System: 8 * vm.GiB, Work: 9 * vm.GiB, RemoveOnStop: true},
		State: vm.Creating, CreatedAt: time.Unix(5, 6),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#% name.db")
	db := open(t, path)
	v := sample("a1", "one")
	op := vm.Operation{VM: "a1", Action: "create", Step: "row"}
	must(t, db.InsertVM(t.Context(), v, op))
	img := vm.Image{Name: "img", Digest: "sha256:d", Path: "/p", Bytes: 3, Source: "s", CreatedAt: time.Unix(7, 8)}
	k := vm.Kernel{Release: "6.12", Version: "6.12-1", Digest: "sha256:e", Path: "/k", ModulesDisk: "/m", ModulesDir: "/d", Bytes: 4, Source: "t", CreatedAt: time.Unix(9, 1)}
	must(t, db.PutImage(t.Context(), img))
	must(t, db.PutKernel(t.Context(), k))
	must(t, db.BindVM(t.Context(), "a1", "sha256:d", "6.12"))
	must(t, db.SetState(t.Context(), "a1", vm.Running, "", time.Unix(10, 2)))
	must(t, db.Close())

	db = open(t, path)
	v.Spec.ImageDigest, v.Spec.Kernel, v.State, v.StartedAt = "sha256:d", "6.12", vm.Running, time.Unix(10, 2)
	vms, err := db.VMs(t.Context())
	must(t, err)
	images, err := db.Images(t.Context())
	must(t, err)
	kernels, err := db.Kernels(t.Context())
	must(t, err)
	ops, err := db.Operations(t.Context())
	must(t, err)
	if d := cmp.Diff([]any{vms, images, kernels, ops}, []any{[]vm.VM{v}, []vm.Image{img}, []vm.Kernel{k}, []vm.Operation{op}}); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestNamesAreUniqueAndImagesInUseStay(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	must(t, db.InsertVM(t.Context(), sample("a1", "one"), vm.Operation{VM: "a1"}))
	err := db.InsertVM(t.Context(), sample("a2", "one"), vm.Operation{VM: "a2"})
	if errs.KindOf(err) != errs.Exists {
		t.Errorf("a second VM of one name: %v", err)
	}
	if err := db.BindVM(t.Context(), "a1", "sha256:d", "6.12"); errs.KindOf(err) != errs.Conflict {
		t.Errorf("bound to an image that is not there: %v", err)
	}
	must(t, db.PutImage(t.Context(), vm.Image{Name: "x", Digest: "sha256:d"}))
	must(t, db.PutImage(t.Context(), vm.Image{Name: "y", Digest: "sha256:d"}))
	must(t, db.PutKernel(t.Context(), vm.Kernel{Release: "6.12"}))
	must(t, db.BindVM(t.Context(), "a1", "sha256:d", "6.12"))
	if last, err := db.DeleteImage(t.Context(), "x"); last || err != nil {
		t.Errorf("one of two names: last %v, %v", last, err)
	}
	if _, err := db.DeleteImage(t.Context(), "y"); errs.KindOf(err) != errs.Conflict {
		t.Errorf("the last name of a disk in use: %v", err)
	}
	must(t, db.DeleteVM(t.Context(), "a1"))
	if last, err := db.DeleteImage(t.Context(), "y"); !last || err != nil {
		t.Errorf("the last name: last %v, %v", last, err)
	}
	if _, err := db.DeleteImage(t.Context(), "y"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a name that is gone: %v", err)
	}
	if ops, err := db.Operations(t.Context()); len(ops) != 0 || err != nil {
		t.Errorf("a deleted VM left operations: %v, %v", ops, err)
	}
}

func TestBadDatabasesAreRefusedUnchanged(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	must(t, os.WriteFile(garbage, make([]byte, 8192), 0o600))
	must(t, os.WriteFile(garbage, append([]byte("not a database"), make([]byte, 8192)...), 0o600))
	newer := filepath.Join(dir, "newer")
	must(t, open(t, newer).Close())
	raw, err := sql.Open("sqlite", newer)
	must(t, err)
	_, err = raw.Exec("PRAGMA user_version=99")
	must(t, errors.Join(err, raw.Close()))
	for _, path := range []string{garbage, newer} {
		before, err := os.ReadFile(path)
		must(t, err)
		_, err = statedb.Open(t.Context(), path)
		if errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", path, err, errs.HintOf(err))
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", path)
		}
	}
}
