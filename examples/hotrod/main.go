// Hotrod is a ride-hailing application in six services, there to show a whole
// trace:
//
//	go run ./examples/hotrod          # then open the address it prints and click a customer
//	go run ./examples/hotrod -once    # one ride without a browser, its trace as text
//
// A ride goes like this. Each name is a service with a tracing of its own, and a
// listener but for mysql and redis, which are pretended.
//
//	frontend ── HTTP ── customer ── mysql     who is it?      one query at a time: rides queue
//	         ── gRPC ── driver ──── redis     who is near?    every fifth lookup times out, and is tried again
//	         ── HTTP ── route                 how far is it?  ten times, three at once
//
// Read frontend.go first, then a file for each service: what meshtrace needs is
// the lines with tracing in them. telemetry.go sets up what an ordinary program
// leaves to the environment, because here six services share one process and bring
// their own collector.
//
// "hotrod frontend", "hotrod customer", "hotrod driver" and "hotrod route" run one
// service each, to stand in containers or behind proxies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/span"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// run is the program. It returns the exit code: 0, 1 for a failure, 2 for flags
// that cannot be understood. Once ctx ends it stops gracefully.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	opt, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, opt.usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "hotrod: %v\n(hotrod -help lists the flags)\n", err)
		return 2
	}

	logs := stdout
	if opt.json {
		logs = stderr // stdout is for the spans alone
	}
	a := &app{opt: opt, log: newLogger(opt.logs, logs), out: stdout, errOut: stderr, failed: make(chan error, 1)}
	if err := a.run(ctx, getenv); err != nil {
		fmt.Fprintf(stderr, "hotrod: %v\n", err)
		return 1
	}
	return 0
}

// newLogger returns a logger whose lines carry trace_id, span_id and request_id
// wherever the context of a request is given.
func newLogger(format string, w io.Writer) *slog.Logger {
	var h slog.Handler = slog.NewTextHandler(w, nil)
	if format == "json" {
		h = slog.NewJSONHandler(w, nil)
	}
	return slog.New(span.LogHandler(h))
}

// app is the running program.
type app struct {
	opt         options
	log         *slog.Logger
	out, errOut io.Writer
	tel         *telemetry
	servers     []*server  // in the order of their start
	failed      chan error // the first server that ended by itself
}

// stopTimeout bounds how long rides under way may take to arrive after Ctrl-C.
const stopTimeout = 10 * time.Second

func (a *app) run(ctx context.Context, getenv func(string) string) error {
	tel, err := newTelemetry(a.opt, a.log, getenv)
	if err != nil {
		return err
	}
	a.tel = tel
	err = a.start(ctx)
	switch {
	case err != nil:
	case a.opt.once:
		return a.once(ctx)
	default:
		a.announce()
		select {
		case <-ctx.Done():
		case err = <-a.failed:
		}
	}
	sum := a.stop()
	if err == nil {
		fmt.Fprintf(a.out, "hotrod: stopped, %s\n", sum)
	}
	return err
}

// start starts the service that was asked for, or all of them.
func (a *app) start(ctx context.Context) error {
	ln, err := listen(a.opt.listen)
	if err != nil {
		return err
	}
	peers := a.opt.peers
	if a.opt.command != "all" {
		return a.serve(ctx, a.opt.command, ln, peers)
	}

	for _, s := range []struct {
		name string
		addr *string
	}{{"customer", &peers.customer}, {"driver", &peers.driver}, {"route", &peers.route}} {
		inner, err := listen("127.0.0.1:0")
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		*s.addr = inner.Addr().String()
		if err := a.serve(ctx, s.name, inner, peers); err != nil {
			return errors.Join(err, ln.Close())
		}
	}
	return a.serve(ctx, "frontend", ln, peers)
}

// announce says where everything is, at once: who reads along takes no other service for
// the frontend.
func (a *app) announce() {
	if a.opt.command != "all" {
		fmt.Fprintf(a.out, "hotrod: %s listens on %s\n", a.opt.command, a.servers[0].addr)
		return
	}
	var b strings.Builder
	for _, s := range a.servers[:3] {
		fmt.Fprintf(&b, "hotrod: %s listens on %s\n", s.name, s.addr)
	}
	fmt.Fprintf(&b, "hotrod: %s\n", a.tel.describe())
	fmt.Fprintf(&b, "hotrod: open http://%s/ and click a customer; Ctrl-C ends it\n", a.servers[3].addr)
	io.WriteString(a.out, b.String())
}

// stop ends the servers, the frontend first, then sends the spans that are left.
// It returns the accounting.
func (a *app) stop() accounts {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for i := len(a.servers) - 1; i >= 0; i-- {
		if err := a.servers[i].stop(ctx); err != nil {
			a.log.Warn("did not stop in time", "service", a.servers[i].name, "error", err)
		}
	}
	return a.tel.close()
}
