package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
)

// server is a running service.
type server struct {
	name, addr string
	stop       func(context.Context) error // waits for what is under way until the context ends
}

// serve runs the named service on ln.
func (a *app) serve(ctx context.Context, name string, ln net.Listener, p peers) error {
	var (
		handler http.Handler
		conn    io.Closer
		err     error
	)
	switch name {
	case "driver":
		var s *grpc.Server
		if s, err = newDriver(ctx, a.tel); err == nil {
			a.add(name, ln, func() error { return s.Serve(ln) }, stopGRPC(s))
			return nil
		}
	case "customer":
		handler, err = newCustomer(ctx, a.tel)
	case "route":
		handler, err = newRoute(ctx, a.tel)
	case "frontend":
		handler, conn, err = newFrontend(ctx, a.tel, p)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", name, err), ln.Close())
	}
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * rideTimeout,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(a.log.With("service", name).Handler(), slog.LevelWarn),
	}
	a.add(name, ln, func() error { return s.Serve(ln) }, func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, s.Close())
		}
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		return err
	})
	return nil
}

// add starts serve and remembers how to stop it. A server that ends by itself
// ends the program.
func (a *app) add(name string, ln net.Listener, serve func() error, stop func(context.Context) error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := serve()
		if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
			return
		}
		select {
		case a.failed <- fmt.Errorf("%s stopped serving: %w", name, err):
		default: // another one was first
		}
	}()
	a.servers = append(a.servers, &server{name: name, addr: reachable(ln.Addr()), stop: func(ctx context.Context) error {
		err := stop(ctx)
		<-done
		return err
	}})
}

// stopGRPC ends s gracefully, and by force once the context ends.
func stopGRPC(s *grpc.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		force := context.AfterFunc(ctx, s.Stop)
		s.GracefulStop()
		if !force() {
			return ctx.Err()
		}
		return nil
	}
}

// listen listens on addr. If it cannot, the error names the flag, and a port that
// is free.
func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	err = fmt.Errorf("-listen %s: %w", addr, err)
	if free := freeNear(addr); free != "" {
		err = fmt.Errorf("%w; -listen %s is free", err, free)
	}
	return nil, err
}

// freeNear returns a free address on the host of addr, if possible with one of the
// ports that follow; "" when the host has none.
func freeNear(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	for _, p := range []int{first + 1, first + 2, first + 3, first + 1000, 0} {
		if p > 1<<16-1 {
			continue
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err != nil {
			continue
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		ln.Close()
		return net.JoinHostPort(host, port)
	}
	return ""
}

// reachable is the address to give to a browser on this machine.
func reachable(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok && t.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(t.Port))
	}
	return a.String()
}
