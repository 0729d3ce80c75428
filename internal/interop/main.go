// Interop runs meshtrace against systems that its users have in production.
//
//	go run . install all         # every peer, into /.peers of the repository
//	go run . install collector   # one of them
//	go run . collector-check     # one ride over HTTP and one over gRPC; its file equals hotrod's -json
//	MESHTRACE_INTEROP=1 go test -v -count=1 .   # the scenarios, and a table of them
//
// `make interop` installs all and runs the scenarios, which are this package's tests.
// One that lacks a peer skips and prints the command that installs it; with
// MESHTRACE_INTEROP=1 it fails. MESHTRACE_LONG=1 runs their long forms.
//
// Peers are installed from package registries into a folder that git ignores.
// Everything binds loopback addresses on free ports, and what a command starts
// it ends, by process id.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

var usage = `usage:
  go run . install all|PEER...     where PEER is one of ` + peerNames() + `
  go run . collector-check
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	root, err := repository()
	if err != nil {
		return err
	}
	switch {
	case len(args) > 1 && args[0] == "install":
		return installPeers(ctx, root, args[1:])
	case len(args) == 1 && args[0] == "collector-check":
		return checkCollector(ctx, root)
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("unknown command %q", args)
}

// repository returns the folder of the root module, going up from the working
// directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.Contains(string(mod), "module github.com/meshtrace/meshtrace\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod of github.com/meshtrace/meshtrace in this folder or above it")
		}
		dir = up
	}
}
