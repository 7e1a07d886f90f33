"""The edge of botocore: sessions, clients, what AWS answers and what it refuses."""
