from django.urls import path

from monitoring.alerts import channel_views, rule_views, transfer_views, views

urlpatterns = [
    path("", views.alerts, name="alerts"),
    path("strip/", views.strip, name="alert-strip"),
    path("acknowledge/", views.acknowledge_several, name="alerts-acknowledge"),
    path("statistics/", views.statistics, name="alert-statistics"),
    path("rules/", rule_views.rules, name="alert-rules"),
    path("rules/new/", rule_views.new_rule, name="rule-new"),
    path("rules/words/", rule_views.rule_words, name="rule-words"),
    path("rules/preview/", rule_views.rule_preview, name="rule-preview"),
    path("rules/export/", transfer_views.export, name="alerts-export"),
    path("rules/import/", transfer_views.import_file, name="alerts-import"),
    path("rules/<int:rule_id>/", rule_views.edit_rule, name="rule"),
    path("rules/<int:rule_id>/switch/", rule_views.switch_rule, name="rule-switch"),
    path("rules/<int:rule_id>/delete/", rule_views.delete_rule, name="rule-delete"),
    path("silences/", views.silences, name="silences"),
    path("silences/fits/", views.silence_fits, name="silence-fits"),
    path("silences/<int:silence_id>/end/", views.end_silence, name="silence-end"),
    path("channels/", channel_views.channels, name="channels"),
    path("channels/new/<str:kind>/", channel_views.new, name="channel-new"),
    path("channels/<int:config_id>/", channel_views.edit, name="channel"),
    path("channels/<int:config_id>/delete/", channel_views.delete, name="channel-delete"),
    path("channels/<int:config_id>/test/", channel_views.test, name="channel-test"),
    path("deliveries/retry/", channel_views.retry_all, name="deliveries-retry"),
    path("deliveries/<int:delivery_id>/retry/", channel_views.retry, name="delivery-retry"),
    path("<int:alert_id>/", views.alert, name="alert"),
    path("<int:alert_id>/acknowledge/", views.acknowledge, name="alert-acknowledge"),
    path("<int:alert_id>/withdraw/", views.withdraw, name="alert-withdraw"),
    path("<int:alert_id>/note/", views.note, name="alert-note"),
    path("<int:alert_id>/resolve/", views.resolve, name="alert-resolve"),
]
