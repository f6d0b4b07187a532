// Go's net/http as good as we can make it for this: TLS 1.3, HTTP/2, client certificates against the same root, all cores, no log,
// connections that stay open, sessions resumed, the same answer.
//
// Go's crypto/tls knows nothing of revocation. So this has what a Go service that means it would have: the CRLs are parsed and their
// signatures verified once, when they are loaded; their serial numbers lie in a map, which is swapped as a whole when SIGHUP asks for
// another load; and the map is asked after every handshake, resumed ones too, and before every request.
//
// It uses the standard library only, so that it builds without a network.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// serial is a certificate's serial number: at most 20 octets (RFC 5280 section 4.1.2.2).
type serial [20]byte

func newSerial(number *big.Int) (serial serial, err error) {
	if number.Sign() < 0 || number.BitLen() > 8*len(serial) {
		return serial, errors.New("a serial number is negative or too long")
	}
	number.FillBytes(serial[:])
	return serial, nil
}

// crl is what one issuer revokes.
type crl struct {
	nextUpdate time.Time
	revoked    map[serial]struct{}
}

// revocations are the CRLs in force, by their issuers' names in DER.
type revocations map[string]*crl

// load reads CRLs in DER and verifies that one of the issuers signed each.
func load(files []string, issuers []*x509.Certificate) (revocations, error) {
	loaded := make(revocations, len(files))
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !isSignedByOneOf(list, issuers) {
			return nil, fmt.Errorf("%s: no known issuer signed it", file)
		}
		revoked := make(map[serial]struct{}, len(list.RevokedCertificates))
		for _, entry := range list.RevokedCertificates {
			number, err := newSerial(entry.SerialNumber)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			revoked[number] = struct{}{}
		}
		loaded[string(list.RawIssuer)] = &crl{list.NextUpdate, revoked}
	}
	return loaded, nil
}

func isSignedByOneOf(list *x509.RevocationList, issuers []*x509.Certificate) bool {
	for _, issuer := range issuers {
		if string(issuer.RawSubject) == string(list.RawIssuer) && list.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

// check says why one of these certificates, the trust anchor above them left out, is not to be let in.
func (current revocations) check(state *tls.ConnectionState, now time.Time) error {
	if len(state.VerifiedChains) == 0 {
		return errors.New("no verified certificate")
	}
	chain := state.VerifiedChains[0]
	for _, certificate := range chain[:len(chain)-1] {
		list, isKnown := current[string(certificate.RawIssuer)]
		if !isKnown || now.After(list.nextUpdate) {
			return errors.New("no current CRL")
		}
		number, err := newSerial(certificate.SerialNumber)
		if err != nil {
			return err
		}
		if _, isRevoked := list.revoked[number]; isRevoked {
			return errors.New("certificate revoked")
		}
	}
	return nil
}

func certificates(file string) (found []*x509.Certificate, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found = append(found, certificate)
	}
	return found, nil
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:8443", "address")
	identity := flag.String("cert", "peer.crt", "chain of the server, PEM")
	key := flag.String("key", "peer.key", "its key, PEM")
	root := flag.String("root", "root.pem", "trust anchor of clients, PEM")
	above := flag.String("issuers", "issuers.pem", "who signs CRLs, PEM")
	crls := flag.String("crls", "issuing.crl,above.crl", "CRLs, DER, separated by commas")
	answer := flag.String("answer", "", "what /hello answers")
	isVersion := flag.Bool("version", false, "print the version of Go and end")
	flag.Parse()
	if *isVersion {
		fmt.Println(runtime.Version())
		return nil
	}

	own, err := tls.LoadX509KeyPair(*identity, *key)
	if err != nil {
		return err
	}
	issuers, err := certificates(*above)
	if err != nil {
		return err
	}
	anchors, err := certificates(*root)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	for _, anchor := range anchors {
		clients.AddCert(anchor)
	}

	var current atomic.Pointer[revocations]
	reload := func() error {
		loaded, err := load(strings.Split(*crls, ","), issuers)
		if err != nil {
			return err
		}
		current.Store(&loaded)
		return nil
	}
	if err := reload(); err != nil {
		return err
	}
	// What parsing took is several times what is kept.
	debug.FreeOSMemory()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			if err := reload(); err != nil {
				fmt.Fprintln(os.Stderr, "the CRLs stay as they are:", err)
			}
			debug.FreeOSMemory()
		}
	}()

	body := []byte(*answer)
	routes := http.NewServeMux()
	text := func(path, mediaType string, body []byte) {
		routes.HandleFunc(path, func(response http.ResponseWriter, _ *http.Request) {
			response.Header().Set("Content-Type", mediaType)
			_, _ = response.Write(body)
		})
	}
	text("/hello", "application/json", body)
	text("/healthy", "text/plain", []byte("healthy"))
	server := &http.Server{
		Handler: http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			if err := current.Load().check(request.TLS, time.Now()); err != nil {
				http.Error(response, err.Error(), http.StatusForbidden)
				return
			}
			routes.ServeHTTP(response, request)
		}),
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{own},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    clients,
			// Unlike VerifyPeerCertificate it is called for resumed sessions, too.
			VerifyConnection: func(state tls.ConnectionState) error {
				return current.Load().check(&state, time.Now())
			},
		},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return server.ServeTLS(listener, "", "")
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
