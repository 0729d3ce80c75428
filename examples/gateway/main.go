// Gateway is a small HTTP gateway that traces as an Envoy does, for a file that its
// operator writes:
//
//	go run ./examples/gateway                    # gateway.json, and an upstream that answers what it was asked
//	go run ./examples/gateway -config my.json    # another file
//	go run ./examples/gateway -check my.json     # tells every mistake of a file
//	curl -i localhost:8080/carts/7
//
// gateway.json shows each thing once: decorators, custom tags, retries, timeouts, a
// route that answers by itself, a health check, who is outside. Spans go where the
// OTEL_* variables say; without them they are printed here, as trees.
// The admin address of the file shows the last ones, http://localhost:9901 here.
//
// Read proxy/tracing.go, proxy/gateway.go and proxy/router.go for what meshtrace needs.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/examples/gateway/proxy"
	"github.com/meshtrace/meshtrace/middleware"
)

//go:embed gateway.json
var defaultFile []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// run is the program. It returns the exit code: 0, 1 for a failure, 2 for flags or a
// file that cannot be understood. Once ctx ends it stops gracefully.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "", "the `file` to serve by; none: gateway.json, with an upstream of its own")
	check := flags.String("check", "", "a `file` to check, and nothing else")
	listen := flags.String("listen", "", "`address` in the place of the file's")
	admin := flags.String("admin", "", "`address` of the traces in the place of the file's")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "gateway: -help lists the flags")
		return 2
	}
	cfg, err := load(*check + *file)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	opts := proxy.Options{Logger: logger, Edit: func(m *middleware.Config) { m.Getenv = printing(getenv) }}
	if *check != "" {
		g, err := proxy.New(ctx, cfg, opts)
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 2
		}
		g.Close(ctx)
		fmt.Fprintln(stdout, *check+" is right")
		return 0
	}
	if *file == "" {
		up, err := startEcho()
		if err != nil {
			fmt.Fprintln(stderr, "gateway:", err)
			return 1
		}
		defer up.Close()
		serveBy(&cfg, up.addr)
	}
	if *listen != "" {
		cfg.Listen = *listen
	}
	if *admin != "" {
		cfg.Admin = *admin
	}
	if err := serve(ctx, cfg, opts, stdout); err != nil {
		fmt.Fprintln(stderr, "gateway:", err)
		return 1
	}
	return 0
}

// load reads a file; "" is gateway.json.
func load(path string) (proxy.Config, error) {
	if path == "" {
		return proxy.Parse(defaultFile)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return proxy.Config{}, fmt.Errorf("gateway: %w", err)
	}
	return proxy.Parse(file)
}

// printing is an environment in which spans are printed unless it says where they go.
func printing(getenv func(string) string) func(string) string {
	return func(name string) string {
		v := getenv(name)
		if v == "" && name == "OTEL_TRACES_EXPORTER" && getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return "console"
		}
		return v
	}
}

// serveBy has every cluster of cfg that has hosts served by one address.
func serveBy(cfg *proxy.Config, address string) {
	for name, c := range cfg.Clusters {
		for i := range c.Hosts {
			c.Hosts[i].Address = address
		}
		cfg.Clusters[name] = c
	}
}

// serve serves until ctx ends, then waits for the requests that are under way.
func serve(ctx context.Context, cfg proxy.Config, opts proxy.Options, stdout io.Writer) error {
	g, err := proxy.New(ctx, cfg, opts)
	if err != nil {
		return err
	}
	servers := []*server{{address: cmp.Or(cfg.Listen, "127.0.0.1:8080"), handler: g}}
	if cfg.Admin != "" { // apart from what strangers reach
		servers = append(servers, &server{address: cfg.Admin, handler: g.Tracing().DebugHandler()})
	}
	for _, s := range servers {
		if err := s.listen(); err != nil {
			for _, s := range servers {
				err = errors.Join(err, s.close())
			}
			return errors.Join(err, g.Close(ctx))
		}
	}
	fmt.Fprintf(stdout, "gateway: http://%s\n", servers[0].listener.Addr())
	if cfg.Admin != "" {
		fmt.Fprintf(stdout, "traces: http://%s\n", servers[1].listener.Addr())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(servers))
	for _, s := range servers {
		go func() {
			defer stop() // one that fails ends the other
			ended <- s.serve(ctx)
		}()
	}
	for range servers {
		err = errors.Join(err, <-ended)
	}
	return errors.Join(err, g.Close(context.WithoutCancel(ctx)))
}

// server is one listener and what it serves.
type server struct {
	address  string
	handler  http.Handler
	listener net.Listener
}

func (s *server) listen() (err error) {
	s.listener, err = net.Listen("tcp", s.address)
	return err
}

func (s *server) close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// serve serves until ctx ends, and then what is under way for up to 5 s.
func (s *server) serve(ctx context.Context) error {
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, DisableGeneralOptionsHandler: true, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // gRPC inside a mesh
	stopped := make(chan error, 1)
	unregister := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(ctx)
	})
	err := srv.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return <-stopped
	}
	unregister()
	return err
}
