package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// writeProxy makes dir a module proxy (https://go.dev/ref/mod#goproxy-protocol)
// that has one version of one module: the work tree at root.
func writeProxy(ctx context.Context, dir, root string) error {
	files, err := workTree(ctx, root)
	if err != nil {
		return err
	}
	versions := filepath.Join(dir, filepath.FromSlash(modulePath), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{moduleVersion, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := zipModule(&archive, os.DirFS(root), files); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"list":                  []byte(moduleVersion + "\n"),
		moduleVersion + ".info": info,
		moduleVersion + ".mod":  mod,
		moduleVersion + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// workTree returns the files that git has or would add, with slashes, relative
// to root.
func workTree(ctx context.Context, root string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files in %s: %w\n%s", root, err, stderr.String())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

// zipModule writes a module zip (https://go.dev/ref/mod#zip-files): every regular
// file under module@version/, without those of nested modules.
func zipModule(w io.Writer, tree fs.FS, files []string) error {
	nested := make(map[string]bool)
	for _, name := range files {
		if dir, base := path.Split(name); base == "go.mod" && dir != "" {
			nested[path.Clean(dir)] = true
		}
	}
	zw := zip.NewWriter(w)
	for _, name := range files {
		if within(nested, name) {
			continue
		}
		info, err := fs.Stat(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		f, err := zw.Create(modulePath + "@" + moduleVersion + "/" + name)
		if err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
	}
	return zw.Close()
}

// within reports whether name stands in one of dirs or below it.
func within(dirs map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}
