package layers_test

import (
	"strings"
	"testing"
)

// image is a case of the differential test: layers, and what is known about them
// beforehand. The methods return changed copies.
type image struct {
	layers [][]entry
	// refused is what our error says, where we make no disk. If umoci is empty, then
	// umoci refuses, too.
	refused string
	// umoci is the word of reasons why umoci is no judge: it makes nothing of this, or
	// something where we refuse.
	umoci string
	// unasked is for what would do umoci's host harm.
	unasked bool
	// want is what must be there, in the form of facts.String, or missing: where umoci
	// is no judge, or may be wrong in the same way as we.
	want map[string]string
	// except has where umoci's tree is another.
	except []exception
}

// one is an image of one layer.
func one(entries ...entry) image { return image{layers: [][]entry{entries}} }

// of is an image of layers, the lowest first.
func of(layers ...[]entry) image { return image{layers: layers} }

// layer is for the arguments of of.
func layer(entries ...entry) []entry { return entries }

// refuse says that there is no disk, and what the error says.
func (im image) refuse(text string) image { im.refused = text; return im }

// alone says that umoci does otherwise altogether, and why.
func (im image) alone(reason string) image { im.umoci = reason; return im }

// have says what must be there: a path, then facts, and so on.
func (im image) have(want ...string) image {
	im.want = merged(im.want)
	for i := 0; i < len(want); i += 2 {
		im.want[want[i]] = want[i+1]
	}
	return im
}

// but says where umoci's tree is another: "path: field" or "path: field=ours".
func (im image) but(reason string, where ...string) image {
	for _, w := range where {
		path, field, _ := strings.Cut(w, ": ")
		field, ours, _ := strings.Cut(field, "=")
		im.except = append(im.except[:len(im.except):len(im.except)], exception{path, field, ours, reason})
	}
	return im
}

// exception is a difference that there must be.
type exception struct {
	path, field string
	ours        string // what we must have; empty is whatever we have
	reason      string // a word of reasons
}

// reasons are all the ways in which we and umoci 0.4.7 differ, and why we are as we are.
// "The specification" is the OCI image specification's layer.md.
var reasons = map[string]string{
	"a time for parents":   "a directory that no layer has an entry of gets the time 1970, and the one that it is made in keeps its own; umoci takes the time of the day for both",
	"a time for whiteouts": "a directory from which something is removed keeps its time; umoci restores that of the marker's directory alone",
	"whiteouts first":      "whiteouts hide what lower layers have, wherever in the archive they are (the specification, Whiteouts): so of a directory that the layer only implies, nothing is left; umoci keeps its attributes if the marker comes late",
	"aufs":                 "AUFS's own files are not of the image, as Docker has it; umoci keeps them",
	"late links":           "a hard link may come before its target, as GNU tar's incremental archives have it; umoci refuses",
	"links first":          "a hard link's target is looked up before what is in the link's place goes, as GNU tar does; umoci removes first, and then there is nothing to link to",
	"no dots":              `".." in a name is refused: nobody writes it who means well; umoci takes it for what is left when it is resolved by its letters alone`,
	"few types":            "contiguous files, old GNU sparse files and global headers are standard tar; umoci knows none of them",
	"holes in full":        "a sparse file keeps its holes; umoci writes them in full, and fills the host's disk",
	"sockets":              "tar has no sockets: what says it is one is left out; umoci makes a file",
	"slashes":              "a name that ends in a slash is that of a directory, as GNU tar and libarchive have it; umoci goes by the type alone",
	"lost+found":           "it is a directory, or e2fsck is not content; umoci's folder is no file system of its own",
	"times of umoci":       "umoci counts nanoseconds since 1970 in 64 bits, which end in 2262; ours are those of ext4, which end in 2446",
	"large devices":        "Linux has 12 bits for a major number; umoci cuts it",
	"acls and modes":       "the mode counts, and an access ACL follows it, as Docker and containerd set the mode last; umoci sets the ACL last",
	"attributes misplaced": "what the kernel does not allow on a file of its type is left out, as containerd does; umoci refuses",
	"empty attributes":     "an attribute may be empty, as GNU tar and containerd have it; umoci's reader takes it for a record that is taken back",
	"selinux":              "all of security. is kept; umoci leaves out this one",
}

func TestLikeUmoci(t *testing.T) {
	needRoot(t)
	for name, im := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			im.run(t)
		})
	}
}

// TestReasonsAreGiven holds the table to what the corpus needs.
func TestReasonsAreGiven(t *testing.T) {
	used := map[string]bool{}
	for name, im := range corpus(t) {
		for _, e := range append(im.except, exception{reason: im.umoci}) {
			if used[e.reason] = true; e.reason != "" && reasons[e.reason] == "" {
				t.Errorf("%s: no reason is called %q", name, e.reason)
			}
		}
	}
	for reason := range reasons {
		if !used[reason] {
			t.Errorf("nothing has the reason %q", reason)
		}
	}
}

func (im image) run(t *testing.T) {
	var layers [][]byte
	for _, l := range im.layers {
		layers = append(layers, archive(t, l...))
	}
	root, said := "", "it would do harm"
	if !im.unasked {
		root, said = umoci(t, writeLayout(t, layers...))
	}
	if refuses := said != ""; refuses != ((im.umoci == "") == (im.refused != "")) {
		t.Errorf("umoci: %q", said)
	}
	path, err := makeDisk(t, layers...)
	if im.refused != "" {
		if err == nil || !strings.Contains(err.Error(), im.refused) {
			t.Errorf("got %v, want %q", err, im.refused)
		}
		return
	}
	must(t, err)
	ours := readDisk(t, path)
	for path, want := range im.want {
		got := missing
		if f, ok := ours[path]; ok {
			got = f.String()
		}
		if got != want {
			t.Errorf("%q is\n%s, not\n%s", path, got, want)
		}
	}
	if said != "" {
		if im.want == nil {
			t.Error("there is nobody to compare with: umoci has refused, and the case wants nothing")
		}
		return
	}
	im.judge(t, ours, onHost(t, root, false))
}

// readDisk reads a disk by the kernel and by our reader, which must see the same, and
// leaves out what says nothing about the layers.
func readDisk(t testing.TB, path string) tree {
	t.Helper()
	judge(t, path)
	read := inImage(t, openDisk(t, path))
	mounted(t, path, func(root string) {
		for _, d := range compare(onHost(t, root, true), read) {
			t.Errorf("kernel and reader: %v", d)
		}
	})
	return withoutInodes(read)
}

// judge compares with umoci's tree. Every difference must be expected, and every one
// that is expected must be there.
func (im image) judge(t testing.TB, ours, theirs tree) {
	t.Helper()
	// Ours has one, as mke2fs gives every ext4.
	if f, ok := ours["lost+found"]; ok && theirs["lost+found"] == nil {
		if got, want := f.String(), "40700 0:0"; got != want {
			t.Errorf("lost+found is %s, not %s", got, want)
		}
		delete(ours, "lost+found")
	}
	used := make([]bool, len(im.except))
differences:
	for _, d := range compare(ours, theirs) {
		for i, e := range im.except {
			if e.path == d.path && e.field == d.field && (e.ours == "" || e.ours == d.one) {
				used[i] = true
				continue differences
			}
		}
		t.Errorf("ours and umoci's: %v", d)
	}
	for i, e := range im.except {
		if !used[i] {
			t.Errorf("%q %s: the difference %q is not there", e.path, e.field, e.reason)
		}
	}
}
