from django.contrib import admin

from django.urls import path
from tests.django.clinic import views

urlpatterns = [path("admin/", admin.site.urls), path("new/", views.NewPatient.as_view())]
