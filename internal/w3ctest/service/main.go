// Command service is the program that W3C's Trace Context harness tests:
//
//	go run ./internal/w3ctest/service -listen 127.0.0.1:5000
//
// It is ended by an interrupt. OTEL_* variables count; without OTEL_TRACES_EXPORTER
// its spans go nowhere.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/internal/w3ctest"
	"github.com/meshtrace/meshtrace/middleware"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// stopTimeout bounds the end of the program in each of its two parts.
const stopTimeout = 5 * time.Second

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:5000", "`address` to serve on; port 0 takes a free one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("argument %q: allowed are flags alone, see -help", flags.Arg(0))
	}
	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "w3ctest", Getenv: getenv})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		err = errors.Join(err, tracing.Shutdown(ctx))
	}()
	service := w3ctest.NewService(tracing)
	defer service.Close()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("-listen=%s: %w", *listen, err)
	}
	server := &http.Server{Handler: tracing.Handler(service), ReadHeaderTimeout: stopTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "listening on http://%s/test\n", listener.Addr())

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// getenv is os.Getenv with no exporter where none is named: a collector is no part of
// the test.
func getenv(name string) string {
	v := os.Getenv(name)
	if v == "" && name == "OTEL_TRACES_EXPORTER" {
		return "none"
	}
	return v
}
