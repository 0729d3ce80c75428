package main

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestZipModule(t *testing.T) {
	tree := fstest.MapFS{
		"go.mod":               {Data: []byte("module m\n")},
		"doc.go":               {Data: []byte("package m\n")},
		".ci/run":              {Data: []byte("#!\n")},
		"deep/er/a.go":         {Data: []byte("package er\n")},
		"nested/go.mod":        {Data: []byte("module n\n")},
		"nested/n.go":          {Data: []byte("package n\n")},
		"nested/below/b.go":    {Data: []byte("package b\n")},
		"nestedness/c.go":      {Data: []byte("package c\n")},
		"not-listed-by-git.go": {Data: []byte("package x\n")},
		"link":                 {Data: []byte("doc.go"), Mode: fs.ModeNamedPipe},
	}
	var buf bytes.Buffer
	err := zipModule(&buf, tree, []string{"go.mod", "doc.go", ".ci/run", "deep/er/a.go", "deleted.go",
		"nested/go.mod", "nested/n.go", "nested/below/b.go", "nestedness/c.go", "link"})
	if err != nil {
		t.Fatal(err)
	}
	zr, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range zr.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = string(b)
	}
	const prefix = modulePath + "@" + moduleVersion + "/"
	want := map[string]string{
		prefix + "go.mod":          "module m\n",
		prefix + "doc.go":          "package m\n",
		prefix + ".ci/run":         "#!\n",
		prefix + "deep/er/a.go":    "package er\n",
		prefix + "nestedness/c.go": "package c\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of the zip (-want +got):\n%s", diff)
	}
}
