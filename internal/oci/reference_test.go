package oci_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"banger/internal/base/errs"
	"banger/internal/oci"
)

const someDigest = "sha256:a9561eb1b190625c9adb5a9513e72c4dedafc1cb2d4c5236c9a6957ec7dfd5a9"

func TestParseReference(t *testing.T) {
	for in, want := range map[string][2]string{
		"alpine":                             {"docker.io/library/alpine:latest", "alpine:latest"},
		"alpine:3.20":                        {"docker.io/library/alpine:3.20", "alpine:3.20"},
		"library/alpine":                     {"docker.io/library/alpine:latest", "alpine:latest"},
		"docker.io/alpine":                   {"docker.io/library/alpine:latest", "alpine:latest"},
		"index.docker.io/library/alpine":     {"docker.io/library/alpine:latest", "alpine:latest"},
		"registry-1.docker.io/me/app:v1":     {"docker.io/me/app:v1", "me/app:v1"},
		"docker.io/library/a/b":              {"docker.io/library/a/b:latest", "library/a/b:latest"},
		"alpine@" + someDigest:               {"docker.io/library/alpine@" + someDigest, "alpine@" + someDigest},
		"alpine:3.20@" + someDigest:          {"docker.io/library/alpine@" + someDigest, "alpine@" + someDigest},
		"ghcr.io/x/y@" + someDigest:          {"ghcr.io/x/y@" + someDigest, "ghcr.io/x/y@" + someDigest},
		"GHCR.io/x/y":                        {"ghcr.io/x/y:latest", "ghcr.io/x/y:latest"},
		"docker.io/localhost/x":              {"docker.io/localhost/x:latest", "docker.io/localhost/x:latest"},
		"docker.io/a.b/x:1":                  {"docker.io/a.b/x:1", "docker.io/a.b/x:1"},
		"localhost/x":                        {"localhost/x:latest", "localhost/x:latest"},
		"localhost:5000/x":                   {"localhost:5000/x:latest", "localhost:5000/x:latest"},
		"localhost:5000/library/x:1":         {"localhost:5000/library/x:1", "localhost:5000/library/x:1"},
		"[::1]:5000/x/y:T_1.a-b":             {"[::1]:5000/x/y:T_1.a-b", "[::1]:5000/x/y:T_1.a-b"},
		"127.0.0.1/x":                        {"127.0.0.1/x:latest", "127.0.0.1/x:latest"},
		"me/a__b/c-d.e:" + "_" + longTag[1:]: {"docker.io/me/a__b/c-d.e:_" + longTag[1:], "me/a__b/c-d.e:_" + longTag[1:]},
	} {
		ref, err := oci.ParseReference(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := [2]string{ref.String(), ref.Familiar()}; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		for _, form := range want {
			if again, err := oci.ParseReference(form); again != ref || err != nil {
				t.Errorf("%q again: %q, %v", form, again, err)
			}
		}
	}
	ref, _ := oci.ParseReference("localhost:5000/a/b:c")
	if got := []string{ref.Registry(), ref.Repository(), ref.Tag(), ref.Digest(), ref.Identifier()}; strings.Join(got, " ") != "localhost:5000 a/b c  c" {
		t.Errorf("parts %q", got)
	}
	if got := ref.WithDigest(someDigest); got.String() != "localhost:5000/a/b@"+someDigest || got.Identifier() != someDigest {
		t.Errorf("with a digest: %q", got)
	}
	if got := (oci.Reference{}).String(); got != "" {
		t.Errorf("the zero value: %q", got)
	}
}

var longTag = strings.Repeat("a", 128)

func TestBadReferences(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "it is empty",
		"Alpine":                                "in lower case",
		"ghcr.io/Owner/app":                     "in lower case",
		"https://ghcr.io/x/y":                   `it has the scheme "https"`,
		"docker://alpine":                       `it has the scheme "docker"`,
		"alpine:":                               "the tag",
		"alpine:a b":                            "the tag",
		"alpine:-a":                             "the tag",
		"alpine:" + longTag + "a":               "the tag",
		"alpine@sha256:1234":                    "is no digest",
		"alpine@sha512:" + someDigest[7:]:       "is no digest",
		"alpine@" + strings.ToUpper(someDigest): "is no digest",
		"alpine@" + someDigest + "@" + someDigest: "is no digest",
		"a//b":                          "the name",
		"a/../b":                        "the name",
		"a/./b":                         "the name",
		"-a":                            "the name",
		"a_-b":                          "the name",
		"a/":                            "the name",
		"/a":                            "the name",
		"a b":                           "the name",
		"a\x00b":                        "the name",
		"localhost:5000/":               "the name",
		"ghcr.io:port/a":                "is no registry",
		"user@ghcr.io/a":                "is no digest",
		"ghcr.io.-/a":                   "is no registry",
		strings.Repeat("a", 256):        "the name",
		strings.Repeat("a/", 600) + "a": "longer than 1024",
		"\x1b[31mred":                   "the name",
	} {
		ref, err := oci.ParseReference(in)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) || errs.HintOf(err) == "" {
			t.Errorf("%q: %q, %v (%s)", in, ref, err, errs.HintOf(err))
		} else if strings.ContainsAny(err.Error()+errs.HintOf(err), "\x00\x1b") {
			t.Errorf("%q: the message %q cannot be printed", in, err)
		}
	}
}

func TestReferencesSurviveTheirForms(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)?`)
	rapid.Check(t, func(t *rapid.T) {
		in := strings.Join(rapid.SliceOfN(part, 1, 4).Draw(t, "path"), "/")
		in = rapid.SampledFrom([]string{"", "docker.io/", "localhost:5000/", "ghcr.io/", "10.0.0.1/"}).Draw(t, "host") + in
		in += rapid.SampledFrom([]string{"", ":1", ":latest", "@" + someDigest}).Draw(t, "end")
		ref, err := oci.ParseReference(in)
		if err != nil {
			return // a first word with a dot is a host
		}
		for _, form := range []string{ref.String(), ref.Familiar()} {
			if again, err := oci.ParseReference(form); err != nil || again != ref {
				t.Fatalf("%q: %q of it is %q, %v", in, form, again, err)
			}
		}
	})
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"alpine", "ghcr.io/x/y:z", "a@" + someDigest, "[::1]:5000/x", "a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := oci.ParseReference(s)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("%q: the error is of no kind: %v", s, err)
			}
			return
		}
		if again, err := oci.ParseReference(ref.Familiar()); err != nil || again != ref {
			t.Errorf("%q: %q of it is %q, %v", s, ref.Familiar(), again, err)
		}
		for _, part := range strings.Split(ref.Repository(), "/") {
			if part == "" || part == "." || part == ".." {
				t.Errorf("%q leads out of its place: %q", s, ref.Repository())
			}
		}
	})
}
