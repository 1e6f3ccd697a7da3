"""A certificate authority, and the contexts of servers that it certifies."""

import ssl

import trustme


class Authority:
    """A certificate authority, and what it issues.

    file: its own certificate, as clients need it.
    """

    def __init__(self, folder):
        self._ca = trustme.CA()
        self._folder = folder
        self.file = str(folder / 'ca.pem')
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, *names, **options):
        """Return the server's SSLContext, with a certificate for these names."""
        return self.certify(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *names, **options)

    def certify(self, context, *names, **options):
        """Give a server's context, of `ssl` or pyOpenSSL, a certificate for these names."""
        issued = self._ca.issue_cert(*(names or ('127.0.0.1', 'localhost')), **options)
        issued.configure_cert(context)
        return context

    def asking_server(self):
        """Return the SSLContext of a server that requires a client certificate."""
        context = self.server()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.file)
        return context

    def files(self, *names, **options):
        """Issue a certificate; return the names of its file and of its key's."""
        issued = self._ca.issue_cert(*names, **options)
        certificate, key = self._folder / 'cert.pem', self._folder / 'key.pem'
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)
