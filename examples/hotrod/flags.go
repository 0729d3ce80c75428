package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// options is what the command line says.
type options struct {
	command string // all, frontend, customer, driver or route
	listen  string
	peers   peers
	once    bool
	rides   int
	json    bool
	logs    string // text or json
	usage   string
}

// peers holds the host:port of the services that the frontend calls.
type peers struct{ customer, driver, route string }

// commands are the commands, each with the address it listens on by default.
func commands() map[string]string {
	return map[string]string{
		"all":      "127.0.0.1:8080",
		"frontend": "127.0.0.1:8080",
		"customer": "127.0.0.1:8081",
		"driver":   "127.0.0.1:8082",
		"route":    "127.0.0.1:8083",
	}
}

// maxRides bounds -rides, so that every span of them fits the built-in receiver.
const maxRides = 1000

// parse reads the command line. Every mistake is in the error; flag.ErrHelp is
// returned when help was asked for, and options.usage holds it.
func parse(args []string) (options, error) {
	o := options{command: "all"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		o.command, args = args[0], args[1:]
	}
	addr := commands()
	listen, ok := addr[o.command]
	if !ok {
		return o, fmt.Errorf("command %q: allowed is all, frontend, customer, driver or route", o.command)
	}

	fs := flag.NewFlagSet("hotrod "+o.command, flag.ContinueOnError)
	fs.StringVar(&o.listen, "listen", listen, "`host:port` to listen on; port 0 takes a free one")
	fs.StringVar(&o.logs, "log", "text", "`form` of the log lines: text or json")
	switch o.command {
	case "all":
		fs.BoolVar(&o.once, "once", false, "take a ride without a browser, print its trace and the accounting, and exit; 1 when something is missing")
		fs.IntVar(&o.rides, "rides", 1, "take `n` rides one after another, from 1 to "+strconv.Itoa(maxRides)+"; includes -once")
		fs.BoolVar(&o.json, "json", false, "print the spans as OTLP JSON, one request a line, instead of the tree; includes -once")
	case "frontend":
		fs.StringVar(&o.peers.customer, "customer-addr", addr["customer"], "`host:port` of the customer service")
		fs.StringVar(&o.peers.driver, "driver-addr", addr["driver"], "`host:port` of the driver service")
		fs.StringVar(&o.peers.route, "route-addr", addr["route"], "`host:port` of the route service")
	}
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	o.usage = usage(fs)
	if err != nil {
		return o, err
	}

	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	o.once = o.once || set["rides"] || o.json
	if o.once && !set["listen"] {
		o.listen = "127.0.0.1:0" // nobody needs to know where
	}
	return o, o.check(fs)
}

// check returns every mistake in the values.
func (o *options) check(fs *flag.FlagSet) error {
	var errs []error
	if fs.NArg() > 0 {
		errs = append(errs, fmt.Errorf("argument %q: none is allowed after the flags", fs.Arg(0)))
	}
	fs.VisitAll(func(f *flag.Flag) {
		if f.Name != "listen" && !strings.HasSuffix(f.Name, "-addr") {
			return
		}
		if _, port, err := net.SplitHostPort(f.Value.String()); err != nil || !isPort(port) {
			errs = append(errs, fmt.Errorf("-%s %q: allowed is host:port, as in %s", f.Name, f.Value, f.DefValue))
		}
	})
	if o.command == "all" && (o.rides < 1 || o.rides > maxRides) {
		errs = append(errs, fmt.Errorf("-rides %d: allowed is 1 to %d", o.rides, maxRides))
	}
	if !slices.Contains([]string{"text", "json"}, o.logs) {
		errs = append(errs, fmt.Errorf("-log %q: allowed is text or json", o.logs))
	}
	return errors.Join(errs...)
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// usage is what -help prints.
func usage(fs *flag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: hotrod [all | frontend | customer | driver | route] [flags]\n\nFlags of %s:\n", fs.Name())
	fs.SetOutput(&b)
	fs.PrintDefaults()
	fs.SetOutput(io.Discard)
	b.WriteString("\nSpans also go where the OTEL_* variables say, as in OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318.\n")
	return b.String()
}
